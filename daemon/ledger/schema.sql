-- SPDX-License-Identifier: MIT
-- The database, schema version 2. Readers use the views claims, claims_hour and claims_day (made by schema.c from
-- daemon/schema.h); the tables may change between versions. Why they look like this: docs/ARCHITECTURE.md.
-- Times are microseconds since the epoch unless a name says boot; *_slack and linger are milliseconds.

-- One run of the daemon. All up to last_seen is in the database.
CREATE TABLE session(
	id INTEGER PRIMARY KEY, boot_id BLOB NOT NULL, started_usec INT NOT NULL, started_boot_usec INT NOT NULL,
	last_seen_usec INT NOT NULL, last_seen_boot_usec INT NOT NULL, clean_stop INT NOT NULL DEFAULT 0,
	version TEXT NOT NULL) STRICT;

-- A stretch in which we watched, and how. source as enum source, protocols a mask of 1 << enum protocol.
CREATE TABLE coverage(
	id INTEGER PRIMARY KEY, session INT NOT NULL, from_usec INT NOT NULL, until_usec INT NOT NULL,
	source INT NOT NULL, interval_usec INT NOT NULL, ranges TEXT NOT NULL, ephemeral_low INT NOT NULL,
	ephemeral_high INT NOT NULL, protocols INT NOT NULL, bound_only INT NOT NULL, accepted INT NOT NULL,
	foreign_processes INT NOT NULL, netns_all INT NOT NULL) STRICT;

-- A stretch in which claims may have been missed. lost NULL: how many cannot be known.
CREATE TABLE gap(
	id INTEGER PRIMARY KEY, from_usec INT NOT NULL, until_usec INT NOT NULL, reason TEXT NOT NULL, lost INT) STRICT;

CREATE TABLE clock_step(id INTEGER PRIMARY KEY, at_usec INT NOT NULL, by_usec INT NOT NULL) STRICT;

-- Single values: 'next_claim', 'next_hot', 'commits' and 'expired_until_usec' (claims released before it are pruned);
-- 'known_key_0', 'known_key_1' (of the hash in `known`) and 'known_since_usec' (what was there then was learnt unsaid).
CREATE TABLE counter(name TEXT PRIMARY KEY, value INT NOT NULL) STRICT, WITHOUT ROWID;

-- Programs, and what they listen on, that were ever seen: each is announced once (notable.c). Retention leaves it alone.
-- program is a keyed hash of exe (or comm) and exe_note. protocol -1: the program itself, with its name (its first 256
-- characters); else a listener, as enum protocol, and port 0 says that it listens on many.
CREATE TABLE known(
	program INT NOT NULL, protocol INT NOT NULL, port INT NOT NULL, name TEXT, exe_note INT,
	first_seen_usec INT NOT NULL, PRIMARY KEY(program, protocol, port)) STRICT, WITHOUT ROWID;

CREATE TABLE netns(id INTEGER PRIMARY KEY, session INT NOT NULL, cookie INT NOT NULL, inode INT NOT NULL, name TEXT) STRICT;
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

-- What a segment holds: claims released in [released_from, released_to], opened in [opened_from, opened_to],
-- none of which lasted an hour (slack and linger included).
CREATE TABLE segment(
	id INTEGER PRIMARY KEY, base_usec INT NOT NULL, released_from INT NOT NULL, released_to INT NOT NULL,
	opened_from INT NOT NULL, opened_to INT NOT NULL, max_slack_usec INT NOT NULL, n INT NOT NULL,
	slack_msec INT NOT NULL DEFAULT 0) STRICT;
CREATE INDEX segment_released ON segment(released_to);
CREATE INDEX segment_opened ON segment(opened_to);

-- rel = opened_usec - base_usec, and the slacks are what they are more than slack_msec: both of the segment's middle, so
-- that most are small. claim is 0 unless a tie or holders need it.
CREATE TABLE claim_seg(
	seg INT NOT NULL, port INT NOT NULL, rel INT NOT NULL, claim INT NOT NULL, dur INT NOT NULL, opened_slack INT,
	closed_slack INT, linger INT, meta INT NOT NULL, rport INT, process INT, raddr BLOB,
	PRIMARY KEY(seg, port, rel, claim)) STRICT, WITHOUT ROWID;

-- Claims of an hour and more.
CREATE TABLE claim_long(
	port INT NOT NULL, opened_usec INT NOT NULL, claim INT NOT NULL, dur INT NOT NULL, opened_slack INT,
	closed_slack INT, linger INT, meta INT NOT NULL, rport INT, process INT, raddr BLOB,
	PRIMARY KEY(port, opened_usec, claim)) STRICT, WITHOUT ROWID;
