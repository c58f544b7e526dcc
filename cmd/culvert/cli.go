package main

import "github.com/alecthomas/kong"

const description = `Culvert is an IPsec gateway in one binary. Plain packets come out of a TUN
device, an ordered policy table decides what happens to them, and what is to be
protected leaves as ESP; the IKE daemon that makes the keys runs in the same
process. Menus, properties and their meaning are those of the RouterOS IPsec
manual, the configuration is one TOML file.

First steps:
  1. see a tunnel work in this very process, without privilege:
         culvert demo
  2. write site.toml (README.md has one to copy) and have it checked:
         culvert check site.toml
  3. run it, and look at what it does:
         sudo culvert run -c site.toml
         sudo culvert active-peers print
         sudo culvert installed-sa print
  4. where it does not come up or a packet does not get through, ask why:
         sudo culvert explain peer NAME
         sudo culvert explain packet --src ADDR --dst ADDR --protocol icmp

Exit codes:
  0  done
  1  the configuration has faults, or the operation failed
  2  wrong usage
  3  a privilege, the TUN device or a port is missing`

// firstWords answers a call without arguments.
const firstWords = `usage: culvert COMMAND [--control PATH]
see: culvert --help`

var groups = []kong.Group{
	{Key: "gateway", Title: "The gateway:"},
	{Key: "menus", Title: "The manual's menus, of a gateway that runs:"},
}

// cli is the grammar of the command line.
type cli struct {
	Control string `placeholder:"PATH" env:"CULVERT_CONTROL" help:"Control socket of the gateway (default ${control_default})."`

	Demo   demoCmd   `cmd:"" group:"gateway" help:"Two gateways and a tunnel in this process, without privilege."`
	Run    runCmd    `cmd:"" group:"gateway" help:"Run the gateway."`
	Check  checkCmd  `cmd:"" group:"gateway" help:"Check a configuration without starting anything."`
	Replay replayCmd `cmd:"" group:"gateway" help:"Play what run --record kept, and compare."`
	Guard  struct {
		On  guardOnCmd  `cmd:"" help:"Set up the guard before a gateway runs."`
		Off guardOffCmd `cmd:"" help:"Take away a guard that was left."`
	} `cmd:"" group:"gateway" help:"Stop plaintext while no gateway runs."`
	Reload     reloadCmd     `cmd:"" group:"gateway" help:"Have the gateway read its configuration again."`
	Completion completionCmd `cmd:"" group:"gateway" help:"Print the completion script of a shell."`
	Man        manCmd        `cmd:"" group:"gateway" help:"Print the manual page."`
	Complete   completeCmd   `cmd:"" hidden:"" passthrough:"" help:"Print what may stand where the cursor is."`
	Version    versionCmd    `cmd:"" group:"gateway" help:"Print the version of this binary and of a gateway that runs."`

	JudgeState judgeStateCmd `cmd:"" hidden:"" help:"Say whether a file with the state is damaged, for the gateway."`

	Policy struct {
		Print policyPrint `cmd:"" help:"Policies in the order in which they are tried."`
	} `cmd:"" group:"menus" help:"What is protected, and how."`
	Peer struct {
		Print peerPrint `cmd:"" help:"Whom IKE is spoken with."`
	} `cmd:"" group:"menus" help:"Whom IKE is spoken with."`
	Identity struct {
		Print identityPrint `cmd:"" help:"How both sides prove who they are."`
	} `cmd:"" group:"menus" help:"How both sides prove who they are."`
	Profile struct {
		Print profilePrint `cmd:"" help:"Algorithms and lifetimes of phase 1."`
	} `cmd:"" group:"menus" help:"Algorithms and lifetimes of phase 1."`
	ModeConfig struct {
		Print modeConfigPrint `cmd:"" help:"What road warriors get."`
	} `cmd:"" name:"mode-config" group:"menus" help:"Addresses, DNS servers and networks for road warriors."`
	Pool struct {
		Print poolPrint `cmd:"" help:"Ranges, and how much of them is given."`
	} `cmd:"" group:"menus" help:"Pools of addresses for road warriors."`
	PolicyGroup struct {
		Print policyGroupPrint `cmd:"" help:"Names of the groups."`
	} `cmd:"" name:"policy-group" group:"menus" help:"Groups of policy templates."`
	Proposal struct {
		Print proposalPrint `cmd:"" help:"Algorithms and lifetimes of phase 2."`
	} `cmd:"" group:"menus" help:"Algorithms and lifetimes of phase 2."`
	ActivePeers struct {
		Print           activePeersPrint   `cmd:"" help:"Peers with an IKE SA."`
		KillConnections killConnectionsCmd `cmd:"" help:"Disconnect all peers."`
		Redirect        redirectCmd        `cmd:"" help:"Send the clients to another gateway."`
		Rekey           rekeyPeersCmd      `cmd:"" help:"Make the keys of all IKE SAs anew."`
	} `cmd:"" group:"menus" help:"Peers with an IKE SA."`
	InstalledSA struct {
		Print installedSAPrint `cmd:"" help:"SAs that protect packets now."`
		Flush flushCmd         `cmd:"" help:"Remove all SAs; peers stay connected."`
		Rekey rekeySAsCmd      `cmd:"" help:"Make the keys of all SAs anew."`
	} `cmd:"" name:"installed-sa" group:"menus" help:"SAs that protect packets now."`
	SA struct {
		Add    saAddCmd    `cmd:"" help:"Add an SA with keys that you give, to a policy without peer."`
		Delete saDeleteCmd `cmd:"" help:"Remove such an SA."`
	} `cmd:"" name:"sa" group:"menus" help:"SAs by hand, without IKE."`
	Explain struct {
		Peer   explainPeerCmd   `cmd:"" help:"What became of the last attempts with a peer."`
		Packet explainPacketCmd `cmd:"" help:"What would become of a packet."`
	} `cmd:"" group:"menus" help:"Why there is no tunnel, or what becomes of a packet."`
	Hardware struct {
		Print hardwarePrint `cmd:"" help:"The acceleration table of this CPU, and how fast it is."`
	} `cmd:"" group:"gateway" help:"What this machine's CPU does for IPsec."`
	Statistics struct {
		Print statisticsPrint `cmd:"" help:"Why packets were dropped, one counter per reason."`
	} `cmd:"" group:"menus" help:"Why packets were dropped."`
}
