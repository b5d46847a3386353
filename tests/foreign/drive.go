// SPDX-License-Identifier: MIT

// drive ADDRESS: drives every method of org.portledger.ledger and of org.varlink.service through the client that
// varlink-go-interface-generator makes of our interface description. It makes claims of its own, and every answer has to
// tell of them. Prints what it drove and which errors it met, as JSON, for the test to hold against the description.
//
// drive -unavailable ADDRESS: the same for the error of a daemon that cannot look.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/varlink/go/varlink"
	"github.com/varlink/go/varlink/idl"
	"orgportledgerledger"
)

const (
	name     = "org.portledger.ledger"
	service  = "org.varlink.service"
	sockets  = 300 // more than the 256 claims of a page
	patience = 60 * time.Second
	clients  = 64 // of the daemon, at most
)

type driver struct {
	ctx     context.Context
	c       *varlink.Connection
	address string
	start   int64 // before our first claim
	driven  map[string]bool
	errors  map[string]bool
}

func check(right bool, format string, arguments ...interface{}) {
	if !right {
		fmt.Fprintf(os.Stderr, "drive: "+format+"\n", arguments...)
		os.Exit(1)
	}
}

func must(err error, what string) {
	check(err == nil, "%s: %v", what, err)
}

// drove notes a method that answered as it should: by the type that the generator has made for it.
func (d *driver) drove(method interface{}) {
	made := strings.TrimPrefix(fmt.Sprintf("%T", method), "orgportledgerledger.")
	d.driven[name+"."+strings.TrimSuffix(made, "_methods")] = true
}

// typed notes an error of our interface, by the type that came.
func (d *driver) typed(err error) {
	d.errors[name+"."+strings.TrimPrefix(fmt.Sprintf("%T", err), "*orgportledgerledger.")] = true
}

func (d *driver) connect() *varlink.Connection {
	c, err := varlink.NewConnection(d.ctx, d.address)
	must(err, "connect")
	return c
}

func now() int64 { return time.Now().UnixMicro() }

func text(s *string) string {
	if s == nil {
		return "(null)"
	}
	return *s
}

func number(i *int64) int64 {
	if i == nil {
		return -1
	}
	return *i
}

// ours holds a claim of ours against what this process is.
func (d *driver) ours(k orgportledgerledger.Claim, port int, protocol string, role string) {
	exe, err := os.Executable()
	must(err, "executable")
	check(k.Port == int64(port) && k.Protocol == protocol && text(k.Role) == role, "%v is not %d/%s %s", k, port, protocol, role)
	check(k.Family == "ipv4" && text(k.Local_address) == "127.0.0.1", "at %s %s", k.Family, text(k.Local_address))
	check(number(k.Pid) == int64(os.Getpid()) && number(k.Uid) == int64(os.Geteuid()), "of %d, uid %d", number(k.Pid), number(k.Uid))
	check(text(k.Exe) == exe && text(k.Comm) == filepath.Base(exe), "of %s (%s)", text(k.Exe), text(k.Comm))
	check(k.Attribution == "procfd" && k.Source == "sweep" && k.Holders != nil && k.User == nil, "by %s of %s", k.Attribution, k.Source)
	check(k.Opened_usec > d.start && k.Opened_usec < now() && number(k.Opened_after_usec) < k.Opened_usec, "opened %d", k.Opened_usec)
}

func (d *driver) coverage(r orgportledgerledger.Coverage) {
	check(!r.Complete && r.Lost == nil && r.Stretches != nil && r.Gaps != nil && len(r.Degraded) == 0, "receipt %v", r)
	for _, s := range r.Stretches {
		check(s.Source == "destroy" && s.Interval_usec > 0 && s.From_usec < s.Until_usec, "stretch %v", s)
	}
	check(len(r.Stretches) > 0, "nobody watched: %v", r)
}

func (d *driver) service() {
	var vendor, product, version, url string
	var interfaces []string

	must(d.c.GetInfo(d.ctx, &vendor, &product, &version, &url, &interfaces), "GetInfo")
	sort.Strings(interfaces)
	check(product == "portledgerd" && version != "" && fmt.Sprint(interfaces) == fmt.Sprint([]string{name, service}), "GetInfo: %s %s %v", product, version, interfaces)
	d.driven[service+".GetInfo"] = true
	for _, i := range interfaces {
		description, err := d.c.GetInterfaceDescription(d.ctx, i)
		must(err, "GetInterfaceDescription")
		parsed, err := idl.New(strings.TrimSpace(description))
		must(err, i)
		check(parsed.Name == i && len(parsed.Methods) > 0, "description of %s", parsed.Name)
	}
	_, err := d.c.GetInterfaceDescription(d.ctx, "org.nothing")
	missing, is := err.(*varlink.InterfaceNotFound)
	check(is && missing.Interface == "org.nothing", "InterfaceNotFound: %v", err)
	d.driven[service+".GetInterfaceDescription"] = true
	d.errors[service+".InterfaceNotFound"] = true
}

func (d *driver) sync() {
	before := now()
	commit, until, err := orgportledgerledger.Sync().Call(d.ctx, d.c)
	must(err, "Sync")
	check(commit > 0 && until > before, "Sync: commit %d, until %d, asked %d", commit, until, before)
	d.drove(orgportledgerledger.Sync())
}

func (d *driver) status() {
	rung, interval, sweeps, _, open, recorded, lost, _, _, _, lostEnds, bytes, _, degraded, processes, version, watching, udpConnect, failures, ranges, ephemeral, used, err :=
		orgportledgerledger.Status().Call(d.ctx, d.c)
	must(err, "Status")
	check(rung == "destroy" && interval > 0 && number(sweeps) > 0 && watching && version != "" && lost == nil, "Status: %s %d %d %v", rung, interval, number(sweeps), watching)
	check(lostEnds == nil && !udpConnect && !failures, "Status: %v %v %v", lostEnds, udpConnect, failures)
	check(number(open) >= 3 && number(recorded) >= 3 && bytes > 0 && used["tcp"] >= 2 && used["udp"] >= sockets, "Status: %d open, used %v", number(open), used)
	check(len(ranges) > 0 && ephemeral.Low < ephemeral.High && degraded != nil, "Status: ranges %v, ephemeral %v", ranges, ephemeral)
	names := []string{}
	for _, p := range processes {
		check(p.Pid > 1 && p.Cpu_usec >= 0 && number(p.Pss_bytes) > 0, "process %v", p)
		names = append(names, p.Name)
	}
	check(fmt.Sprint(names) == "[capture ledger control]", "processes %v", names)
	d.drove(orgportledgerledger.Status())
}

func (d *driver) explain(listening int) {
	tcp := "tcp"
	port, class, service, dynamic, ephemeral, reserved, watched, kernel, open, last, listened, count, day, programs, ever, first, median, coverage, err :=
		orgportledgerledger.Explain().Call(d.ctx, d.c, int64(listening), &tcp, nil)
	must(err, "Explain")
	check(class == "user" || class == "dynamic", "Explain: class %s", class)
	check(service == nil && reserved != nil && len(listened) == 1 && programs == 1 && median == nil, "Explain: %v %v %v %d %v", service, reserved, listened, programs, median)
	check(port == int64(listening) && dynamic == (port >= 49152) && ephemeral && watched, "Explain: %d %v %v %v", port, dynamic, ephemeral, watched)
	check(kernel.Low <= port && port <= kernel.High && number(first) > d.start && last != nil, "Explain: %v %v", kernel, first)
	check(len(open) == 2 && count == 2 && day >= 2 && ever >= 2, "Explain: %d of %d, %d, %d", len(open), count, day, ever)
	sort.Slice(open, func(a, b int) bool { return text(open[a].Role) > text(open[b].Role) })
	d.ours(open[0], listening, "tcp", "listening")
	d.ours(open[1], listening, "tcp", "accepted")
	d.coverage(coverage)
	d.drove(orgportledgerledger.Explain())
}

func (d *driver) who(connected int, listening int) {
	claims, cursor, coverage, err := orgportledgerledger.Who().Call(d.ctx, d.c, int64(connected), nil, d.start, now(), nil, nil)
	must(err, "Who")
	check(len(claims) == 1 && cursor == nil && coverage != nil, "Who: %v", claims)
	d.ours(claims[0], connected, "tcp", "connected")
	check(text(claims[0].Remote_address) == "127.0.0.1" && number(claims[0].Remote_port) == int64(listening), "Who: to %v", claims[0].Remote_port)
	check(claims[0].Closed_usec == nil && claims[0].Released_usec == nil, "Who: closed")
	d.coverage(*coverage)
	d.drove(orgportledgerledger.Who())
}

// claims asks for our UDP sockets twice: in pages by cursor, and in a stream. The answers are the same.
func (d *driver) claims(ports map[int64]bool) {
	pid, udp, open := int64(os.Getpid()), "udp", true
	filter := orgportledgerledger.Filter{Pid: &pid, Protocol: &udp}
	var pulled, streamed []orgportledgerledger.Claim
	var cursor *string

	for pages := 1; pages == 1 || cursor != nil; pages++ {
		page, next, coverage, err := orgportledgerledger.Claims().Call(d.ctx, d.c, &filter, &open, nil, nil, nil, cursor)
		must(err, "Claims")
		check(len(page) <= 256 && (next == nil) == (pages == 2), "Claims: page %d has %d", pages, len(page))
		check(coverage != nil, "Claims: no receipt")
		pulled, cursor = append(pulled, page...), next
	}
	receive, err := orgportledgerledger.Claims().Send(d.ctx, d.c, varlink.More, &filter, &open, nil, nil, nil, nil)
	must(err, "Claims with more")
	for flags := uint64(varlink.Continues); flags&varlink.Continues != 0; {
		var page []orgportledgerledger.Claim
		var coverage *orgportledgerledger.Coverage
		page, _, coverage, flags, err = receive(d.ctx)
		must(err, "Claims with more")
		check((coverage != nil) == (flags&varlink.Continues == 0), "Claims with more: the receipt comes last")
		streamed = append(streamed, page...)
	}
	check(len(pulled) == sockets && fmt.Sprint(values(pulled)) == fmt.Sprint(values(streamed)), "Claims: %d pulled, %d streamed", len(pulled), len(streamed))
	for _, k := range pulled {
		check(ports[k.Port], "Claims: %d is not ours", k.Port)
		d.ours(k, int(k.Port), "udp", "bound")
		delete(ports, k.Port)
	}
	check(len(ports) == 0, "Claims: %v are missing", ports)
	d.drove(orgportledgerledger.Claims())
}

// values makes claims comparable: as JSON, not as pointers.
func values(claims []orgportledgerledger.Claim) string {
	bytes, err := json.Marshal(claims)
	must(err, "marshal")
	return string(bytes)
}

func (d *driver) audit() {
	pid := int64(os.Getpid())
	byProgram := "program"
	programs, claims, ports, unattributed, omitted, failed, reasons, servers, more, coverage, err :=
		orgportledgerledger.Audit().Call(d.ctx, d.c, d.start, now(), &orgportledgerledger.Filter{Pid: &pid}, &byProgram)
	must(err, "Audit")
	check(failed == nil && len(reasons) == 0 && more == 0 && len(servers) == 1, "Audit: %v, %v, %d", reasons, servers, more)
	exe, _ := os.Executable()
	check(len(programs) == 1 && text(programs[0].Exe) == exe && programs[0].New && programs[0].User == nil, "Audit: %v", programs)
	check(claims == sockets+3 && programs[0].Claims == claims && ports == sockets+2 && programs[0].Ports == ports, "Audit: %d claims of %d ports", claims, ports)
	check(unattributed == 0 && omitted == 0 && programs[0].Failures == nil, "Audit: %d, %d", unattributed, omitted)
	check(programs[0].First_usec > d.start && programs[0].Last_usec >= programs[0].First_usec, "Audit: %v", programs[0])
	d.coverage(coverage)
	d.drove(orgportledgerledger.Audit())
}

// listeners has our listener, whose own clients came from other ports.
func (d *driver) listeners(listening int) {
	pid := int64(os.Getpid())
	found, omitted, kernel, netns, reserved, coverage, err :=
		orgportledgerledger.Listeners().Call(d.ctx, d.c, nil, nil, nil, &orgportledgerledger.Filter{Pid: &pid})
	must(err, "Listeners")
	check(len(found) == 1 && omitted == 0 && found[0].Port == int64(listening) && text(found[0].Role) == "listening", "Listeners: %v", found)
	check(found[0].Sockets == 1 && found[0].Tenures == 1 && found[0].Collisions == 0 && found[0].Collision_usec == nil, "Listeners: %v", found[0])
	check(kernel.Low <= found[0].Port && found[0].Port <= kernel.High && number(netns) > 0 && reserved != nil && found[0].Reserved != nil, "Listeners: %v %v %v", kernel, netns, reserved)
	d.coverage(coverage)
	d.drove(orgportledgerledger.Listeners())
}

// annotate has both ends of our connection, whichever way it is seen, and nobody's.
func (d *driver) annotate(connected, listening int) {
	tcp := "tcp"
	flow := func(from, to int) orgportledgerledger.Flow {
		return orgportledgerledger.Flow{At_usec: now(), Protocol: &tcp, Source: "127.0.0.1", Source_port: int64(from),
			Destination: "127.0.0.1", Destination_port: int64(to)}
	}
	answers, err := orgportledgerledger.Annotate().Call(d.ctx, d.c,
		[]orgportledgerledger.Flow{flow(connected, listening), flow(listening, connected), flow(1, 2)})
	must(err, "Annotate")
	check(len(answers) == 3 && answers[2].Source == nil && text(answers[2].Reason) == "unwatched-port", "Annotate: %v", answers)
	for i, role := range []string{"connected", "accepted"} {
		d.ours(*answers[i].Source, map[string]int{"connected": connected, "accepted": listening}[role], "tcp", role)
		check(answers[i].Destination != nil && answers[i].Reason == nil && answers[i].Others == 0, "Annotate: %v", answers[i])
	}
	d.drove(orgportledgerledger.Annotate())

	coverage, err := orgportledgerledger.Receipt().Call(d.ctx, d.c, d.start, now(), nil)
	must(err, "Receipt")
	d.coverage(coverage)
	d.drove(orgportledgerledger.Receipt())
}

// pressure tells of our connection and of our UDP sockets.
func (d *driver) pressure(listening int) {
	one := int64(1)
	port := int64(listening)
	rows, omitted, least, coverage, err := orgportledgerledger.Pressure().Call(d.ctx, d.c, nil, nil, &one, &orgportledgerledger.Filter{Peer_port: &port})
	must(err, "Pressure")
	check(len(rows) == 3 && omitted == 0 && least == nil, "Pressure: %v", rows)
	check(rows[0].Scope == "namespace" && rows[1].Scope == "namespace", "Pressure: %v", rows)
	to := rows[2]
	check(to.Scope == "destination" && to.Used == 1 && to.Peak == 1 && to.Claims == 1 && to.Available <= to.High-to.Low, "Pressure: %v", to)
	check(text(to.Remote_address) == "127.0.0.1" && number(to.Remote_port) == port && text(to.Local_address) == "127.0.0.1", "Pressure: %v", to)
	check(len(to.Openers) == 1 && to.Openers[0].Claims == 1 && !to.Bound_first && to.Time_wait == 0, "Pressure: %v", to.Openers)
	d.coverage(coverage)
	d.drove(orgportledgerledger.Pressure())
}

// released has what we let go, once; its cursor goes on behind it.
func (d *driver) released() {
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	must(err, "udp")
	port := int64(udp.LocalAddr().(*net.UDPAddr).Port)
	d.sync()
	must(udp.Close(), "close")
	for i := 0; i < 3; i++ {
		d.sync()
	}
	until := now()
	filter := &orgportledgerledger.Filter{Ports: &[]int64{port}}
	claims, cursor, last, coverage, err := orgportledgerledger.Released().Call(d.ctx, d.c, &d.start, &until, filter, nil)
	must(err, "Released")
	check(len(claims) == 1 && claims[0].Port == port && last && coverage != nil, "Released: %v, %v", claims, last)
	d.coverage(*coverage)
	claims, _, last, _, err = orgportledgerledger.Released().Call(d.ctx, d.c, nil, nil, filter, &cursor)
	must(err, "Released")
	check(len(claims) == 0 && last, "Released: %v", claims)
	d.drove(orgportledgerledger.Released())
}

// failures are not watched under this rung, and the receipt has no stretch that says so.
func (d *driver) failures() {
	failures, cursor, coverage, err := orgportledgerledger.Failures().Call(d.ctx, d.c, nil, &d.start, nil, nil, nil)
	must(err, "Failures")
	check(len(failures) == 0 && cursor == nil && coverage != nil, "Failures: %v %v", failures, cursor)
	check(len(coverage.Stretches) == 0 && !coverage.Complete, "Failures: %v", coverage)
	d.drove(orgportledgerledger.Failures())
}

// apps has this program, by its last name.
func (d *driver) apps(listening int) {
	exe, _ := os.Executable()
	base := filepath.Base(exe)
	found, omitted, coverage, err := orgportledgerledger.Apps().Call(d.ctx, d.c, nil, nil, nil, &base, nil)
	must(err, "Apps")
	check(len(found) == 1 && omitted == 0 && found[0].Name == exe && found[0].File && found[0].New, "Apps: %v", found)
	a := found[0]
	check(a.Claims == sockets+3 && a.Ports == sockets+2 && a.Connected == 1 && a.Listening == 1 && a.Accepted == 1 && a.Bound == sockets, "Apps: %v", a)
	check(a.First_usec > d.start && number(a.Last_usec) > a.First_usec && a.Last_before_usec == nil, "Apps: %v", a)
	check(len(a.Uids) == 1 && a.Uids[0] == int64(os.Geteuid()) && len(a.Comms) == 1 && !a.Comms_more, "Apps: %v", a)
	check(len(a.Preferred) == 1 && a.Preferred[0].Port == int64(listening) && a.Preferred[0].Claims == 2, "Apps: %v", a.Preferred)
	check(number(a.Low) >= 1 && number(a.High) >= number(a.Low) && a.Serves != nil && a.Units != nil, "Apps: %v", a)
	d.coverage(coverage)
	d.drove(orgportledgerledger.Apps())
}

// pictures are of all that we claimed, in steps that add up to it.
func (d *driver) pictures() {
	pid := int64(os.Getpid())
	until := now()
	step := (until-d.start)/10 + 1
	origin, size, programs, omitted, claims, before, unattributed, steps, ports, low, onPort, elsewhere, ephemeral, coverage, err :=
		orgportledgerledger.Activity().Call(d.ctx, d.c, d.start, until, step, nil, &orgportledgerledger.Filter{Pid: &pid})
	must(err, "Activity")
	exe, _ := os.Executable()
	check(origin == d.start && size == step && len(programs) == 1 && text(programs[0].Exe) == exe && omitted == 0, "Activity: %v", programs)
	check(claims == sockets+3 && programs[0].Claims == claims && before == 0 && unattributed == 0, "Activity: %d claims", claims)
	sum := int64(0)
	for _, n := range steps {
		sum += n
	}
	check(len(steps) == 10 && sum == claims && fmt.Sprint(steps) == fmt.Sprint(programs[0].Steps), "Activity: %v", steps)
	sum = elsewhere
	for _, n := range onPort {
		sum += n
	}
	check(sum == claims && ports == sockets+2 && low+int64(len(onPort)) == 65536, "Activity: %d claims of %d ports from %d", sum, ports, low)
	d.coverage(coverage)
	d.drove(orgportledgerledger.Activity())

	_, _, series, omitted, ephemeral, coverage, err :=
		orgportledgerledger.Occupancy().Call(d.ctx, d.c, d.start, until, step, nil, &orgportledgerledger.Filter{Pid: &pid})
	must(err, "Occupancy")
	check(len(series) == 2 && omitted == 0 && series[0].Protocol == "udp" && series[1].Protocol == "tcp", "Occupancy: %v", series)
	check(series[0].Range == ephemeral && series[0].Peak == sockets && series[0].Used[9] == sockets, "Occupancy: %v", series[0])
	check(series[0].Time_wait[9] == 0 && series[0].Peak_usec > d.start && series[0].Peak_usec < until, "Occupancy: %v", series[0])
	d.coverage(coverage)
	d.drove(orgportledgerledger.Occupancy())
}

// follow makes a claim and lets it go, before the eyes of a second connection.
func (d *driver) follow() {
	follower := d.connect()
	tcp := "tcp"
	receive, err := orgportledgerledger.Follow().Send(d.ctx, follower, varlink.More, &orgportledgerledger.Filter{Protocol: &tcp}, nil)
	must(err, "Follow")
	next := func() (string, []orgportledgerledger.Claim) {
		event, claims, lost, flags, err := receive(d.ctx)
		must(err, "Follow")
		check(lost == 0 && flags == varlink.Continues, "Follow: %d lost, flags %d", lost, flags)
		return event, claims
	}
	event, claims := next()
	check(event == "open" && len(claims) == 3, "Follow: %s of %d", event, len(claims))
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err, "listen")
	port := listener.Addr().(*net.TCPAddr).Port
	d.sync()
	event, claims = next()
	check(event == "opened" && len(claims) == 1, "Follow: %s %v", event, claims)
	d.ours(claims[0], port, "tcp", "listening")
	must(listener.Close(), "close")
	d.sync()
	d.sync() // two whole sweeps without it
	event, claims = next()
	check(event == "released" && len(claims) == 1 && number(claims[0].Released_usec) > claims[0].Opened_usec, "Follow: %s %v", event, claims)
	d.ours(claims[0], port, "tcp", "listening")
	must(follower.Close(), "close")
	d.drove(orgportledgerledger.Follow())
}

func (d *driver) doctor() {
	checks, err := orgportledgerledger.Doctor().Call(d.ctx, d.c)
	must(err, "Doctor")
	for _, k := range checks {
		check(k.Name != "" && k.Text != "" && (k.Level == "ok" || k.Level == "warning" || k.Level == "failure"), "Doctor: %v", k)
	}
	check(len(checks) > 3, "Doctor: %d checks", len(checks))
	d.drove(orgportledgerledger.Doctor())
}

func (d *driver) refusals() {
	_, _, _, err := orgportledgerledger.Who().Call(d.ctx, d.c, 0, nil, 1, 2, nil, nil)
	bad, is := err.(*orgportledgerledger.InvalidRange)
	check(is && bad.Parameter == "port", "InvalidRange: %v", err)
	d.typed(err)
	err = d.c.Call(d.ctx, name+".Sync", map[string]int{"undeclared": 1}, nil)
	parameter, is := err.(*varlink.InvalidParameter)
	check(is && parameter.Parameter == "undeclared", "InvalidParameter: %v", err)
	d.errors[service+".InvalidParameter"] = true
	err = d.c.Call(d.ctx, name+".Forget", nil, nil)
	method, is := err.(*varlink.MethodNotFound)
	check(is && method.Method == name+".Forget", "MethodNotFound: %v", err)
	d.errors[service+".MethodNotFound"] = true
	_, _, _, err = orgportledgerledger.Follow().Call(d.ctx, d.c, nil, nil)
	untyped, is := err.(*varlink.Error) // this client has no type for it
	check(is && untyped.Name == service+".ExpectedMore", "ExpectedMore: %v", err)
	d.errors[service+".ExpectedMore"] = true
	receive, err := d.c.Upgrade(d.ctx, name+".Sync", nil)
	must(err, "upgrade")
	_, _, err = receive(d.ctx, nil)
	unimplemented, is := err.(*varlink.MethodNotImplemented)
	check(is && unimplemented.Method == name+".Sync", "MethodNotImplemented: %v", err)
	d.errors[service+".MethodNotImplemented"] = true
	// no answer at all: else the next call would get it
	_, err = orgportledgerledger.Sync().Send(d.ctx, d.c, varlink.Oneway)
	must(err, "oneway")
	d.service()
}

// crowd opens as many connections as there may be, and one more. That one is told why and cut off; where it was cut before
// it had sent its call, this client does not read what it was told, so it comes again.
func (d *driver) crowd() {
	crowd := []*varlink.Connection{}
	var many *orgportledgerledger.TooManyClients

	for attempts := 0; many == nil && attempts < 1000; attempts++ {
		c := d.connect()
		_, _, err := orgportledgerledger.Sync().Call(d.ctx, c)
		if err == nil {
			crowd = append(crowd, c)
			continue
		}
		must(c.Close(), "close")
		if told, is := err.(*orgportledgerledger.TooManyClients); is {
			many = told
			d.typed(err)
		}
	}
	check(many != nil && many.Limit == clients && len(crowd)+1 == clients, "TooManyClients: %v beside %d", many, len(crowd)+1)
	for _, c := range crowd {
		must(c.Close(), "close")
	}
	d.sync() // when it answers, their ends were read
}

func (d *driver) everything() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	must(err, "listen")
	listening := listener.Addr().(*net.TCPAddr).Port
	client, err := net.Dial("tcp4", listener.Addr().String())
	must(err, "dial")
	accepted, err := listener.Accept()
	must(err, "accept")
	ports := map[int64]bool{}
	bound := []net.PacketConn{}
	connected := client.LocalAddr().(*net.TCPAddr).Port
	for len(bound) < sockets {
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		must(err, "udp")
		port := udp.LocalAddr().(*net.UDPAddr).Port
		if port == listening || port == connected { // the same number, of another protocol: not in our sums
			must(udp.Close(), "close")
			continue
		}
		ports[int64(port)] = true
		bound = append(bound, udp)
	}

	d.service()
	d.sync()
	d.status()
	d.explain(listening)
	d.who(connected, listening)
	d.claims(ports)
	d.audit()
	d.listeners(listening)
	d.annotate(connected, listening)
	d.pressure(listening)
	d.failures()
	d.apps(listening)
	d.pictures()
	d.doctor()
	d.released() // makes a claim more, which the sums above do not have
	d.refusals()
	d.crowd()
	d.follow() // last: that a follower left is noticed within a second
	for _, s := range bound {
		must(s.Close(), "close")
	}
	must(accepted.Close(), "close")
	must(client.Close(), "close")
	must(listener.Close(), "close")
}

func (d *driver) unavailable() {
	_, _, err := orgportledgerledger.Sync().Call(d.ctx, d.c)
	reason, is := err.(*orgportledgerledger.StoreUnavailable)
	check(is && reason.Reason != "", "StoreUnavailable: %v", err)
	d.typed(err)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d := &driver{ctx: ctx, address: os.Args[len(os.Args)-1], start: now(), driven: map[string]bool{}, errors: map[string]bool{}}
	d.c = d.connect()
	if os.Args[1] == "-unavailable" {
		d.unavailable()
	} else {
		d.everything()
	}
	must(d.c.Close(), "close")
	must(json.NewEncoder(os.Stdout).Encode(map[string]map[string]bool{"driven": d.driven, "errors": d.errors}), "print")
}
