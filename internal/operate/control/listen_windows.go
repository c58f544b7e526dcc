package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wireguard/ipc/namedpipe"
)

// DefaultPath is where the control pipe is unless told otherwise. Below this
// prefix only administrators can make pipes, so nobody else can pose as culvert.
const DefaultPath = `\\.\pipe\ProtectedPrefix\Administrators\culvert`

// pipeAccess: owned by and open to the system and administrators, nobody else;
// processes of lower integrity may neither read nor write.
const pipeAccess = "O:BAD:P(A;;GA;;;SY)(A;;GA;;;BA)S:(ML;;NWNRNX;;;HI)"

// Listen opens the control pipe at path. Only the system and administrators can open it.
func Listen(path string) (net.Listener, error) {
	sd, err := windows.SecurityDescriptorFromString(pipeAccess)
	if err != nil {
		return nil, fmt.Errorf("control pipe: %w", err)
	}
	l, err := (&namedpipe.ListenConfig{SecurityDescriptor: sd}).Listen(path)
	if err == nil {
		return l, nil
	}
	// The first instance of a pipe is made exclusively; a second one is denied.
	if conn, e := dial(context.Background(), path); e == nil {
		conn.Close()
		return nil, fmt.Errorf("control pipe %s: another culvert answers there: use --control PATH or stop it", path)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("control pipe %s: run culvert as administrator: %w", path, err)
	}
	return nil, fmt.Errorf("control pipe %s: %w", path, err)
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	return namedpipe.DialContext(ctx, path)
}
