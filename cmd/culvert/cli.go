package main

import "github.com/alecthomas/kong"

const description = `Culvert is an IPsec gateway in one binary. It reads plain packets from a TUN
device, looks each one up in an ordered policy table, and sends those that must
be protected as ESP. The IKE daemon that negotiates the keys runs in the same
process. Menus and properties are those of the RouterOS IPsec manual. The
configuration is one TOML file.

First steps:
  1. Watch a tunnel work, without root:
         culvert demo
  2. Write site.toml (README.md has one to copy) and check it:
         culvert check site.toml
  3. Run the gateway and look at its SAs:
         sudo culvert run -c site.toml
         sudo culvert active-peers print
         sudo culvert installed-sa print
  4. If the tunnel does not come up, or a packet does not get through, ask why:
         sudo culvert explain peer NAME
         sudo culvert explain packet --src ADDR --dst ADDR --protocol icmp

Exit codes:
  0  success
  1  the configuration has faults, or the command failed
  2  wrong usage
  3  a privilege is missing, or the TUN device or a port is not available`

// firstWords is printed if there are no arguments.
const firstWords = `usage: culvert COMMAND [--control PATH]
see: culvert --help`

var groups = []kong.Group{
	{Key: "gateway", Title: "The gateway:"},
	{Key: "menus", Title: "The manual's menus, of a running gateway:"},
}

// cli is the grammar of the command line.
type cli struct {
	Control string `placeholder:"PATH" env:"CULVERT_CONTROL" help:"Control socket of the gateway (default ${control_default})."`

	Demo   demoCmd   `cmd:"" group:"gateway" help:"Run two gateways and a tunnel in this process, without root."`
	Run    runCmd    `cmd:"" group:"gateway" help:"Run the gateway."`
	Check  checkCmd  `cmd:"" group:"gateway" help:"Check a configuration without starting anything."`
	Replay replayCmd `cmd:"" group:"gateway" help:"Replay a recording of run --record and compare the results."`
	Guard  struct {
		On  guardOnCmd  `cmd:"" help:"Set up the guard before a gateway runs."`
		Off guardOffCmd `cmd:"" help:"Remove a guard that was left."`
	} `cmd:"" group:"gateway" help:"Block plaintext while no gateway runs."`
	Reload     reloadCmd     `cmd:"" group:"gateway" help:"Make the running gateway read its configuration again."`
	Completion completionCmd `cmd:"" group:"gateway" help:"Print the completion script of a shell."`
	Man        manCmd        `cmd:"" group:"gateway" help:"Print the manual page."`
	Complete   completeCmd   `cmd:"" hidden:"" passthrough:"" help:"Print the candidates for the word at the cursor."`
	Version    versionCmd    `cmd:"" group:"gateway" help:"Print the version of this binary and of the running gateway."`

	JudgeState judgeStateCmd `cmd:"" hidden:"" help:"Check a state file for damage. The gateway calls this itself."`

	Policy struct {
		Print policyPrint `cmd:"" help:"Policies, in the order in which they are tried."`
	} `cmd:"" group:"menus" help:"Which traffic is protected, and how."`
	Peer struct {
		Print peerPrint `cmd:"" help:"The other ends of the tunnels."`
	} `cmd:"" group:"menus" help:"The other ends of the tunnels."`
	Identity struct {
		Print identityPrint `cmd:"" help:"How each side authenticates."`
	} `cmd:"" group:"menus" help:"How each side authenticates."`
	Profile struct {
		Print profilePrint `cmd:"" help:"Algorithms and lifetimes of phase 1."`
	} `cmd:"" group:"menus" help:"Algorithms and lifetimes of phase 1."`
	ModeConfig struct {
		Print modeConfigPrint `cmd:"" help:"What road warriors are given."`
	} `cmd:"" name:"mode-config" group:"menus" help:"Addresses, DNS servers and networks for road warriors."`
	Pool struct {
		Print poolPrint `cmd:"" help:"Address ranges, and how many addresses are in use."`
	} `cmd:"" group:"menus" help:"Pools of addresses for road warriors."`
	PolicyGroup struct {
		Print policyGroupPrint `cmd:"" help:"Groups of policy templates."`
	} `cmd:"" name:"policy-group" group:"menus" help:"Groups of policy templates."`
	Proposal struct {
		Print proposalPrint `cmd:"" help:"Algorithms and lifetimes of phase 2."`
	} `cmd:"" group:"menus" help:"Algorithms and lifetimes of phase 2."`
	ActivePeers struct {
		Print           activePeersPrint   `cmd:"" help:"Peers with an IKE SA."`
		KillConnections killConnectionsCmd `cmd:"" help:"Disconnect all peers."`
		Redirect        redirectCmd        `cmd:"" help:"Send the connected clients to another gateway."`
		Rekey           rekeyPeersCmd      `cmd:"" help:"Rekey all IKE SAs."`
	} `cmd:"" group:"menus" help:"Peers with an IKE SA."`
	InstalledSA struct {
		Print installedSAPrint `cmd:"" help:"SAs that protect packets."`
		Flush flushCmd         `cmd:"" help:"Remove all SAs. The peers stay connected."`
		Rekey rekeySAsCmd      `cmd:"" help:"Rekey all SAs."`
	} `cmd:"" name:"installed-sa" group:"menus" help:"SAs that protect packets."`
	SA struct {
		Add    saAddCmd    `cmd:"" help:"Add an SA with your own keys to a policy without a peer."`
		Delete saDeleteCmd `cmd:"" help:"Remove an SA that was added by hand."`
	} `cmd:"" name:"sa" group:"menus" help:"SAs that are added by hand, without IKE."`
	Explain struct {
		Peer   explainPeerCmd   `cmd:"" help:"Why there is no tunnel with a peer."`
		Packet explainPacketCmd `cmd:"" help:"What the gateway would do with a packet."`
	} `cmd:"" group:"menus" help:"Why there is no tunnel, or what happens to a packet."`
	Hardware struct {
		Print hardwarePrint `cmd:"" help:"Which algorithms this CPU accelerates, and how fast they are."`
	} `cmd:"" group:"gateway" help:"How well this computer's CPU supports IPsec."`
	Key struct {
		Print    keyPrint    `cmd:"" help:"RSA keys in the state directory."`
		Generate keyGenerate `cmd:"" name:"generate-key" help:"Make a private key."`
		Export   keyExport   `cmd:"" name:"export-pub-key" help:"Write the public key of a private key to a file."`
		Import   keyImport   `cmd:"" help:"Read a private or a public key from a file."`
		Remove   keyRemove   `cmd:"" help:"Delete a key."`
	} `cmd:"" group:"gateway" help:"RSA keys for peers without certificates. No gateway needs to run."`
	Offload struct {
		Print offloadPrint `cmd:"" help:"What the system does for many packets at once."`
	} `cmd:"" group:"menus" help:"What makes the path of packets fast here."`
	Statistics struct {
		Print statisticsPrint `cmd:"" help:"Counters of dropped packets, one for each reason."`
	} `cmd:"" group:"menus" help:"Counters of dropped packets."`
}
