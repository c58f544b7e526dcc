package sample

import "testing"

func TestPush(t *testing.T) {
	var s Stack
	for i := range 4 {
		if err := s.Push(i); (err == nil) != (i < 3) {
			t.Error(i, err)
		}
	}
	if s.size != 3 {
		t.Error(s.size)
	}
}

func TestSum(t *testing.T) {
	var s Stack
	_ = s.Push(7)
	if s.Sum() != 7 {
		t.Error(s.Sum())
	}
}

func TestWait(t *testing.T) {
	if Wait(0) != 3 {
		t.Error(Wait(0))
	}
}
