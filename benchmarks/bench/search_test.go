package main

import (
	"errors"
	"math"
	"testing"
)

// gateway carries capacity a second, of a sender that can offer so much.
func gateway(capacity, sender float64) trial {
	return func(rate float64) (offered, lost float64, err error) {
		offered = min(rate, sender)
		return offered, max(0, 1-capacity/offered), nil
	}
}

func TestHighestRate(t *testing.T) {
	s := search{Start: 1000, Most: 1e6, Loss: 0.01, Near: 1.02}
	for _, c := range []struct {
		name             string
		capacity, sender float64
		want             float64
	}{
		{"above the start", 77_000, 1e9, 77_000},
		{"below the start", 130, 1e9, 130},
		{"the sender is the limit", 1e9, 50_000, 50_000},
		{"no rate is too high", 1e9, 1e9, 1e6},
	} {
		got, err := s.highest(gateway(c.capacity, c.sender))
		if err != nil || math.Abs(got/c.want-1) > 0.03 {
			t.Errorf("%s: %.0f, want %.0f; %v", c.name, got, c.want, err)
		}
	}
	if got, err := s.highest(gateway(0, 1e9)); got != 0 || err != nil {
		t.Errorf("nothing passes: %v, %v", got, err)
	}
	broken := errors.New("broken")
	if _, err := s.highest(func(float64) (float64, float64, error) { return 0, 0, broken }); !errors.Is(err, broken) {
		t.Errorf("a trial that fails: %v", err)
	}
}

// A moment in which the machine was busy is no limit: of a gateway, nor of the sender.
func TestHighestRateTriesAgain(t *testing.T) {
	for _, busy := range []func(offered, lost float64) (float64, float64){
		func(offered, _ float64) (float64, float64) { return offered, 0.5 },
		func(offered, lost float64) (float64, float64) { return offered / 10, lost },
	} {
		tries := 0
		got, err := search{Start: 1000, Most: 1e6, Loss: 0.01, Near: 1.02, Again: 1}.highest(func(rate float64) (float64, float64, error) {
			offered, lost, _ := gateway(77_000, 1e9)(rate)
			if tries++; tries%3 == 1 {
				offered, lost = busy(offered, lost)
			}
			return offered, lost, nil
		})
		if err != nil || math.Abs(got/77_000-1) > 0.03 {
			t.Errorf("%.0f, %v", got, err)
		}
	}
}

// What arrives counts, not what was offered.
func TestHighestRateIsWhatArrives(t *testing.T) {
	got, err := search{Start: 1000, Most: 1000, Loss: 0.5, Near: 1.02}.highest(func(float64) (float64, float64, error) { return 1000, 0.4, nil })
	if err != nil || math.Abs(got-600) > 1e-9 {
		t.Errorf("%v, %v; want 600", got, err)
	}
}
