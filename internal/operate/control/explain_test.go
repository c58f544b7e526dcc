package control

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestExplanationsArriveAsTheyWere(t *testing.T) {
	m, ctx := sample(), context.Background()
	path := start(t, m)
	c := NewClient(path)
	q := PacketQuery{Src: "10.0.0.1", Protocol: "tcp", DstPort: 80, Inbound: true}
	want, _ := m.ExplainPacket(ctx, q)
	if got, err := c.ExplainPacket(ctx, q); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("packet: %+v, %v", got, err)
	}
	wantPeer, _ := m.ExplainPeer(ctx, "site2")
	if got, err := c.ExplainPeer(ctx, "site2"); err != nil || !reflect.DeepEqual(got, wantPeer) {
		t.Errorf("peer: %+v, %v", got, err)
	}
	if status, body := raw(t, path, "POST", "/v1/explain/packet", "{}"); status != http.StatusInternalServerError || !strings.Contains(body, "which") {
		t.Errorf("no packet: %d %s", status, body)
	}
}
