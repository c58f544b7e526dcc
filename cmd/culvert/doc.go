// Command culvert is the gateway, and the tool that controls a running one.
//
// This folder has the flags, the subcommands and their output. The work is done in
// internal/gateway, internal/operate/control and config.
package main
