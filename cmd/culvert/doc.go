// Command culvert is the gateway and the tool that talks to a running one.
//
// This folder holds flags, subcommands and output rules; what they do is in
// internal/gateway, internal/operate/control and config.
package main
