package addresses

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A list is told at once, and after news where it is another. What comes together is read once.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done, news := make(chan struct{}), make(chan struct{}, 1)
		var mu sync.Mutex // of the next lines: what wakes by the clock alone has no order with what we did before
		list, failed := []int{1}, error(nil)
		var told [][]int
		reads, ended := 0, false
		is := func(l []int, err error) {
			mu.Lock()
			defer mu.Unlock()
			list, failed = l, err
		}
		var now []int
		go func() {
			follow(done, news, func() ([]int, error) {
				mu.Lock()
				defer mu.Unlock()
				reads++
				return list, failed
			}, &now, func(l []int) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, l)
			})
			ended = true
		}()
		expect := func(what string, wantReads, wantTold int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if reads != wantReads || len(told) != wantTold {
				t.Fatalf("%s: read %d times and told %d times, not %d and %d", what, reads, len(told), wantReads, wantTold)
			}
		}
		expect("at once", 1, 1)
		time.Sleep(time.Hour)
		expect("without news", 1, 1)

		is([]int{1, 2}, nil)
		news <- struct{}{}
		expect("news that may not be alone", 1, 1)
		is([]int{1, 2, 3}, nil)
		time.Sleep(gather)
		expect("news", 2, 2)
		if !slices.Equal(told[1], []int{1, 2, 3}) || !slices.Equal(now, told[1]) {
			t.Errorf("told %v, and %v is remembered", told, now)
		}

		news <- struct{}{}
		time.Sleep(gather)
		expect("news that change nothing", 3, 2)

		is(nil, errors.New("cannot be read"))
		news <- struct{}{}
		time.Sleep(gather)
		expect("a list that cannot be read", 4, 2)
		is([]int{1, 2, 3}, nil)
		news <- struct{}{}
		time.Sleep(gather)
		expect("the same list again", 5, 2)

		news <- struct{}{}
		synctest.Wait()
		close(done)
		expect("the end while news gather", 5, 2)
		if !ended {
			t.Error("it goes on while news gather")
		}
	})
}

// A watch that is told to end while nothing happens ends.
func TestFollowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done, ended := make(chan struct{}), false
		go func() {
			var now []int
			follow(done, nil, func() ([]int, error) { return nil, nil }, &now, func([]int) { t.Error("an empty list is told at the beginning") })
			ended = true
		}()
		synctest.Wait()
		close(done)
		synctest.Wait()
		if !ended {
			t.Error("it goes on")
		}
	})
}

// Where the system does not tell, it is time to look every now and then, and who looks late is not told twice.
func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		news := every(time.Minute, done)
		expect := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if len(news) != want {
				t.Fatalf("%s: %d waiting, not %d", what, len(news), want)
			}
		}
		time.Sleep(time.Minute - 1)
		expect("before its time", 0)
		time.Sleep(time.Nanosecond)
		expect("at its time", 1)
		time.Sleep(3 * time.Minute)
		expect("later", 1)
		<-news
		time.Sleep(time.Minute)
		expect("the next time", 1)
		<-news
		close(done)
		time.Sleep(time.Hour)
		expect("after the end", 0)
	})
}
