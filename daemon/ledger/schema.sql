-- SPDX-License-Identifier: MIT
-- The database, schema version 10. Readers use the views claims, claims_hour, claims_day, activity_hour, activity_day and failures (made by schema.c from
-- daemon/schema.h); the tables may change between versions. Why they look like this: docs/ARCHITECTURE.md.
-- Times are microseconds since the epoch unless a name says boot; *_slack and linger are milliseconds.

-- One run of the daemon. All up to last_seen is in the database. ring_*: the events' ring, as it last told of itself: all
-- that it told before ring_position is in the database, and the counts are of the whole generation (struct drained).
CREATE TABLE session(
	id INTEGER PRIMARY KEY, boot_id BLOB NOT NULL, started_usec INT NOT NULL, started_boot_usec INT NOT NULL,
	last_seen_usec INT NOT NULL, last_seen_boot_usec INT NOT NULL, clean_stop INT NOT NULL DEFAULT 0,
	version TEXT NOT NULL, ring_generation INT, ring_position INT, ring_lost INT, ring_lost_ends INT,
	ring_failures_dropped INT, ring_at_boot_usec INT) STRICT;

-- A stretch in which we watched, and how. source as enum source, protocols a mask of 1 << enum protocol.
CREATE TABLE coverage(
	id INTEGER PRIMARY KEY, session INT NOT NULL, from_usec INT NOT NULL, until_usec INT NOT NULL,
	source INT NOT NULL, interval_usec INT NOT NULL, ranges TEXT NOT NULL, ephemeral_low INT NOT NULL,
	ephemeral_high INT NOT NULL, protocols INT NOT NULL, bound_only INT NOT NULL, accepted INT NOT NULL,
	foreign_processes INT NOT NULL, netns_all INT NOT NULL, udp_connect INT NOT NULL DEFAULT 0,
	failures INT NOT NULL DEFAULT 0) STRICT;

-- A stretch in which claims may have been missed. lost NULL: how many cannot be known.
CREATE TABLE gap(
	id INTEGER PRIMARY KEY, from_usec INT NOT NULL, until_usec INT NOT NULL, reason TEXT NOT NULL, lost INT) STRICT;

CREATE TABLE clock_step(id INTEGER PRIMARY KEY, at_usec INT NOT NULL, by_usec INT NOT NULL) STRICT;

-- Single values: 'next_claim', 'next_hot', 'commits' and 'expired_until_usec' (claims released before it are pruned);
-- 'hot_from_usec' (nothing in claim_hot was released before it) and 'segment_usec' (no segment has releases of a longer time);
-- 'known_key_0', 'known_key_1' (of the hash in `known`) and 'known_since_usec' (what was there then was learnt unsaid);
-- 'remotes_until_usec' (of what was released before it, remote addresses are not whole);
-- 'failures_expired_usec' (failures before it are pruned); 'rolled_from_usec' (of claims released before it there are no rollups),
-- 'days_rolled_until_usec' (rollup_day has the days before it), 'marked_from_usec' (of claims released before it there are no
-- marks), 'rollup_hours_from_usec' and 'rollup_days_from_usec' (rows of before are dropped).
CREATE TABLE counter(name TEXT PRIMARY KEY, value INT NOT NULL) STRICT, WITHOUT ROWID;

-- Programs, and what they listen on, that were ever seen: each is announced once (notable.c). Retention leaves it alone.
-- program is a keyed hash of exe (or comm) and exe_note. protocol -1: the program itself, with its name (its first 256
-- characters); else a listener, as enum protocol, and port 0 says that it listens on many.
CREATE TABLE known(
	program INT NOT NULL, protocol INT NOT NULL, port INT NOT NULL, name TEXT, exe_note INT,
	first_seen_usec INT NOT NULL, PRIMARY KEY(program, protocol, port)) STRICT, WITHOUT ROWID;

-- What was announced as new, the newest LIMIT_NEWS_KEPT of it, for those who follow: protocol as in `known`, and the claim that
-- it was seen by. id counts without holes.
CREATE TABLE news(id INTEGER PRIMARY KEY, protocol INT NOT NULL, claim INT NOT NULL) STRICT;

-- A network namespace; kept when it is gone. ephemeral_*: its ip_local_port_range as last known; 0: not known.
CREATE TABLE netns(
	id INTEGER PRIMARY KEY, session INT NOT NULL, cookie INT NOT NULL, inode INT NOT NULL, name TEXT,
	ephemeral_low INT NOT NULL DEFAULT 0, ephemeral_high INT NOT NULL DEFAULT 0) STRICT;
CREATE TABLE local(id INTEGER PRIMARY KEY, netns INT NOT NULL, address TEXT NOT NULL, UNIQUE(netns, address)) STRICT;

-- A program as it ran; kept as long as one of its processes.
CREATE TABLE app(
	id INTEGER PRIMARY KEY, exe TEXT, exe_note INT NOT NULL, comm TEXT, uid INT, unit TEXT, cgroup TEXT,
	first_seen_usec INT NOT NULL) STRICT;
CREATE UNIQUE INDEX app_identity ON app(
	ifnull(exe, ''), ifnull(comm, ''), exe_note, ifnull(uid, -1), ifnull(unit, ''), ifnull(cgroup, ''));

-- An opener or holder. pid NULL: no process is known (attribution cgroup, uid, kernel).
CREATE TABLE process(
	id INTEGER PRIMARY KEY, app INT NOT NULL, session INT NOT NULL, pid INT, start_boot_usec INT, pidfd_inode INT,
	parent_pid INT, parent_comm TEXT, last_seen_usec INT NOT NULL) STRICT;

-- Holders beside the opener, of claims whose `claim` number says so. Times as in the view.
CREATE TABLE holder(
	claim INT NOT NULL, n INT NOT NULL, process INT NOT NULL, from_usec INT NOT NULL, until_usec INT,
	PRIMARY KEY(claim, n)) STRICT, WITHOUT ROWID;

-- Claims whose port is not free again yet. closed_usec set: only TIME_WAIT is left.
CREATE TABLE claim_open(
	claim INTEGER PRIMARY KEY, session INT NOT NULL, cookie INT NOT NULL, port INT NOT NULL,
	opened_usec INT NOT NULL, opened_boot_usec INT NOT NULL, opened_slack INT, closed_usec INT, closed_slack INT,
	meta INT NOT NULL, rport INT, raddr BLOB, process INT) STRICT;

-- Closed claims, in the order of release, unindexed; sorted into segments when there are enough of them.
-- id counts without holes, so that a reader who follows can tell exactly what it missed.
CREATE TABLE claim_hot(
	id INTEGER PRIMARY KEY, claim INT NOT NULL, holders INT NOT NULL, port INT NOT NULL, opened_usec INT NOT NULL,
	dur INT NOT NULL, opened_slack INT, closed_slack INT, linger INT, meta INT NOT NULL, rport INT, raddr BLOB,
	process INT) STRICT;
CREATE INDEX claim_hot_long ON claim_hot(port, opened_usec, dur, linger)
	WHERE dur+ifnull(linger,0)*1000+ifnull(opened_slack,0)*1000>=3600000000;

-- Binds and connects that failed. port NULL: none was asked for. meta: of protocol, family and local address only, as a
-- claim's. error and call as enum failure_error and failure_call. holder_*: of the claim that had the port then, if one is
-- known: its opener (or whom PID 1 passed the socket to), its meta of role and attribution only, and its opening.
-- rport and raddr: of a connect to where; of a bind, which has none, to where the claim went that had the port.
CREATE TABLE failure(
	id INTEGER PRIMARY KEY, usec INT NOT NULL, port INT, meta INT NOT NULL, error INT NOT NULL, call INT NOT NULL,
	rport INT, raddr BLOB, process INT, holder INT, holder_meta INT, holder_opened_usec INT,
	remotes INT NOT NULL DEFAULT 0) STRICT;
CREATE INDEX failure_port ON failure(port, usec);
CREATE INDEX failure_usec ON failure(usec);
CREATE INDEX failure_remotes ON failure(remotes, usec) WHERE raddr IS NOT NULL;
-- A stretch of which so many failures are not recorded.
CREATE TABLE failure_left_out(id INTEGER PRIMARY KEY, from_usec INT NOT NULL, until_usec INT NOT NULL, n INT NOT NULL) STRICT;

-- What a segment holds: claims released in [released_from, released_to], opened in [opened_from, opened_to],
-- none of which lasted an hour (slack and linger included). remotes, here and elsewhere: what is left of remote addresses,
-- as enum remote_addresses.
CREATE TABLE segment(
	id INTEGER PRIMARY KEY, base_usec INT NOT NULL, released_from INT NOT NULL, released_to INT NOT NULL,
	opened_from INT NOT NULL, opened_to INT NOT NULL, max_slack_usec INT NOT NULL, n INT NOT NULL,
	slack_msec INT NOT NULL DEFAULT 0, remotes INT NOT NULL DEFAULT 0) STRICT;
CREATE INDEX segment_released ON segment(released_to);
CREATE INDEX segment_opened ON segment(opened_to);
CREATE INDEX segment_remotes ON segment(remotes, released_to);

-- rel = opened_usec - base_usec, and the slacks are what they are more than slack_msec: both of the segment's middle, so
-- that most are small. claim is 0 unless a tie or holders need it.
CREATE TABLE claim_seg(
	seg INT NOT NULL, port INT NOT NULL, rel INT NOT NULL, claim INT NOT NULL, dur INT NOT NULL, opened_slack INT,
	closed_slack INT, linger INT, meta INT NOT NULL, rport INT, process INT, raddr BLOB,
	PRIMARY KEY(seg, port, rel, claim)) STRICT, WITHOUT ROWID;

-- Like claims of one second, more than CoalesceAbove=, as one row: n of them, opened from opened_usec to spread_usec later, all
-- closed by closed_usec and released by released_usec. ports: the local port of each, two bytes, big-endian, in their order;
-- port is the lowest. *_usec below spread: the shortest life, the longest, the sum of all, and the sum of what was lingered.
CREATE TABLE coalesced(
	id INTEGER PRIMARY KEY, seg INT NOT NULL, port INT NOT NULL, opened_usec INT NOT NULL, opened_slack INT,
	closed_usec INT NOT NULL, released_usec INT NOT NULL, meta INT NOT NULL, rport INT, process INT, n INT NOT NULL,
	spread_usec INT NOT NULL, shortest_usec INT NOT NULL, longest_usec INT NOT NULL, life_usec INT NOT NULL,
	linger_usec INT NOT NULL, raddr BLOB, ports BLOB NOT NULL) STRICT;
CREATE INDEX coalesced_seg ON coalesced(seg);
CREATE INDEX coalesced_opened ON coalesced(opened_usec);

-- Claims of an hour and more.
CREATE TABLE claim_long(
	port INT NOT NULL, opened_usec INT NOT NULL, claim INT NOT NULL, dur INT NOT NULL, opened_slack INT,
	closed_slack INT, linger INT, meta INT NOT NULL, rport INT, process INT, raddr BLOB,
	remotes INT NOT NULL DEFAULT 0, PRIMARY KEY(port, opened_usec, claim)) STRICT, WITHOUT ROWID;
CREATE INDEX claim_long_remotes ON claim_long(remotes, (opened_usec+dur+ifnull(linger,0)*1000)) WHERE raddr IS NOT NULL;

-- Whose claims a segment has: how many of each uid (of the process, or the socket's owner; -1: not known). Segments of before
-- version 4 have none here.
CREATE TABLE segment_user(
	uid INT NOT NULL, seg INT NOT NULL, n INT NOT NULL, PRIMARY KEY(uid, seg)) STRICT, WITHOUT ROWID;

-- What a program opened in an hour, and in a day that is over, of UTC: of claims that are sealed; kept for longer than they are. app: as
-- credited; 0 of none, -1 of more programs than are told apart. netns: netns.id; 0 not known. apart: of those that an audit looks
-- at one by one (claim_mark). sets: which ports, remote addresses and lives, and why what is unattributed is so, as
-- common/rollup_sets.h has it, ahead of what an audit does not read; ports and remotes are how many it holds.
CREATE TABLE rollup_hour(
	id INTEGER PRIMARY KEY, start_usec INT NOT NULL, app INT NOT NULL, netns INT NOT NULL, apart INT NOT NULL, claims INT NOT NULL,
	connected INT NOT NULL, listening INT NOT NULL, bound INT NOT NULL, accepted INT NOT NULL, unattributed INT NOT NULL,
	first_usec INT NOT NULL, last_usec INT NOT NULL, sets BLOB NOT NULL, shortest_usec INT NOT NULL,
	longest_usec INT NOT NULL, ports INT NOT NULL, remotes INT NOT NULL, UNIQUE(start_usec, app, netns, apart)) STRICT;
CREATE TABLE rollup_day(
	id INTEGER PRIMARY KEY, start_usec INT NOT NULL, app INT NOT NULL, netns INT NOT NULL, apart INT NOT NULL, claims INT NOT NULL,
	connected INT NOT NULL, listening INT NOT NULL, bound INT NOT NULL, accepted INT NOT NULL, unattributed INT NOT NULL,
	first_usec INT NOT NULL, last_usec INT NOT NULL, sets BLOB NOT NULL, shortest_usec INT NOT NULL,
	longest_usec INT NOT NULL, ports INT NOT NULL, remotes INT NOT NULL, UNIQUE(start_usec, app, netns, apart)) STRICT;

-- Leads an audit that takes whole hours from the rollups to the sealed claims that these do not tell. kind 0: by its opening, what it
-- looks at one by one: a server, or a socket that PID 1 passed on. kind n > 0: by the earlier bound of its opening, what is of two
-- hours: its tenure, bounds included, took less than 2^(n-1) hours. seg 0: it is in claim_long. claim: as there. The others are of kinds
-- n > 0 only, and say what an audit needs of the claim, so that it is not looked up: dur and linger as there, meta without its local
-- address, app and netns as in rollup_hour; unattributed: no process is known, nor is it the kernel's; bounded: its end is not known
-- exactly; remote: the hash of its remote address, as in a remote_set. app NULL: it has to be looked up, being of kind 0 as well, or
-- marked before version 9.
CREATE TABLE claim_mark(
	kind INT NOT NULL, at_usec INT NOT NULL, seg INT NOT NULL, port INT NOT NULL, opened_usec INT NOT NULL, claim INT NOT NULL,
	dur INT, linger INT, meta INT, app INT, netns INT, unattributed INT, bounded INT, remote INT,
	PRIMARY KEY(kind, at_usec, seg, port, opened_usec, claim)) STRICT, WITHOUT ROWID;
