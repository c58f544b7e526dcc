// Package sample is what the tests of mutate change.
package sample

import "errors"

const most = 3

// Stack holds at most three numbers.
type Stack struct {
	list []int
	size int
}

// Push puts a number on it.
func (s *Stack) Push(n int) error {
	if len(s.list) >= most {
		return errors.New("full")
	}
	s.list = append(s.list, n)
	s.size++
	return nil
}

// Sum is the sum of the numbers, which nobody tests with more than one.
func (s *Stack) Sum() (sum int) {
	for _, n := range s.list {
		sum += n
	}
	return sum
}

// Wait waits until n is 3.
func Wait(n int) int {
	for n < 3 {
		n++
	}
	return n
}

// Untested is what no test reaches.
func Untested(a, b bool) bool { return a && b }
