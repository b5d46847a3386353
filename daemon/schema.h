/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The database as ledger (its only writer) and control (a reader) both know it: how a raw claim row is decoded.
 * The tables are in daemon/ledger/schema.sql. What this header says in SQL is said once: the stable views and
 * control's queries are both made of it.
 */

#define SCHEMA_APPLICATION_ID 0x504C4447 /* "PLDG" */
#define SCHEMA_VERSION        10
#define SCHEMA_FILE           "portledger.db"

/* A claim of at least this long is not in a segment but in claim_long. Length: from opened minus its slack to
 * released. */
#define SCHEMA_LONG_USEC 3600000000

/* A UDP socket that has no remote end for this long is a server. */
#define SCHEMA_SERVER_USEC 60000000

/* `kind` of a claim_mark: claims that an audit looks at one by one; of two hours; and so on, each twice as long, up to the last,
 * which has no bound. */
#define MARK_APART 0
#define MARK_HOUR  1
#define MARK_LAST  20

/* `meta` of a claim row: 1 bit each where nothing else is said. */
#define META_PROTOCOL_SHIFT    0 /* enum protocol */
#define META_PROTOCOL_MASK     3
#define META_FAMILY_SHIFT      2 /* 0 IPv4, 1 IPv6: of the local address */
#define META_ROLE_SHIFT        3 /* enum role; 0 where META_ROLE_UNKNOWN is set */
#define META_ROLE_MASK         3
#define META_ATTRIBUTION_SHIFT 5 /* enum attribution */
#define META_ATTRIBUTION_MASK  7
#define META_SOURCE_SHIFT      8 /* enum source */
#define META_SOURCE_MASK       3
#define META_PREEXISTING_SHIFT 10            /* opened_usec is when we first saw it */
#define META_END_UNSEEN_SHIFT  11            /* closed_usec is when it was last known alive */
#define META_LOCAL_SHIFT       12            /* local.id, up to bit 51 */
#define META_LOCAL_MASK        1099511627775 /* 40 bits */
#define META_ROLE_UNKNOWN      4503599627370496 /* bit 52: seldom, so that it costs the others no byte */
#define META_COALESCED         9007199254740992 /* bit 53: a row of `coalesced`, where `claim` is its id */
/* What may change while a claim is open: role, attribution, source, preexisting, end_unseen. */
#define META_MUTABLE ((1 << META_LOCAL_SHIFT) - (1 << META_ROLE_SHIFT) + META_ROLE_UNKNOWN)

/* A number that has a name here, as SQL text. */
#define SQL_NUMBER(number) SQL_STRINGIFY(number)
#define SQL_STRINGIFY(x)   #x
#define SQL_LONG_USEC      SQL_NUMBER(SCHEMA_LONG_USEC)
#define SQL_MUTABLE        SQL_NUMBER(META_MUTABLE)
#define SQL_KERNEL         "6" /* ATTRIBUTION_KERNEL */

/* What takes a field out of `meta` in SQL: "r.meta" META_ROLE. */
#define META_PROTOCOL ">>" SQL_NUMBER(META_PROTOCOL_SHIFT) "&" SQL_NUMBER(META_PROTOCOL_MASK)
#define META_FAMILY   ">>" SQL_NUMBER(META_FAMILY_SHIFT) "&1"
/* no enum role where it is unknown */
#define META_ROLE                                                                                  \
	">>" SQL_NUMBER(META_ROLE_SHIFT) "&(" SQL_NUMBER(META_ROLE_UNKNOWN) ">>" SQL_NUMBER(       \
		META_ROLE_SHIFT) "|" SQL_NUMBER(META_ROLE_MASK) ")"
#define META_ATTRIBUTION                                                                           \
	">>" SQL_NUMBER(META_ATTRIBUTION_SHIFT) "&" SQL_NUMBER(META_ATTRIBUTION_MASK)
#define META_SOURCE      ">>" SQL_NUMBER(META_SOURCE_SHIFT) "&" SQL_NUMBER(META_SOURCE_MASK)
#define META_PREEXISTING ">>" SQL_NUMBER(META_PREEXISTING_SHIFT) "&1"
#define META_LOCAL       ">>" SQL_NUMBER(META_LOCAL_SHIFT) "&" SQL_NUMBER(META_LOCAL_MASK)

/* When a claim of claim_hot or claim_long was released; `c` is "" or the table's name and a dot. */
#define SQL_RELEASED(c) "(" c "opened_usec+" c "dur+ifnull(" c "linger,0)*1000)"
#define RELEASED_OF_C   SQL_RELEASED("c.")

/*
 * The kinds of rows as one shape: seg, claim, holders (may have some), port, opened_usec, opened_slack,
 * closed_usec, closed_slack, released_usec, meta, rport, raddr, process. Put a WHERE after each.
 */
#define ROWS_OF_SEG COLUMNS_OF_SEG " FROM segment s CROSS JOIN claim_seg c ON c.seg=s.id"
#define COLUMNS_OF_SEG                                                                             \
	"SELECT c.seg AS seg, c.claim AS claim, c.claim<>0 AS holders, c.port AS port,"            \
	" s.base_usec+c.rel AS opened_usec, c.opened_slack+s.slack_msec AS opened_slack,"          \
	" s.base_usec+c.rel+c.dur AS closed_usec, c.closed_slack+s.slack_msec AS closed_slack,"    \
	" s.base_usec+c.rel+c.dur+ifnull(c.linger,0)*1000 AS released_usec,"                       \
	" c.meta AS meta, c.rport AS rport, c.raddr AS raddr, c.process AS process"
#define ROWS_OF_LONG COLUMNS_OF_LONG " FROM claim_long c"
#define COLUMNS_OF_LONG                                                                            \
	"SELECT NULL, c.claim, 1, c.port, c.opened_usec, c.opened_slack, c.opened_usec+c.dur,"     \
	" c.closed_slack, " RELEASED_OF_C ", c.meta, c.rport, c.raddr, c.process"
/*
 * Of a segment with claims that touch what ends at :until: it has releases of less than an hour later, and none that is longer after
 * these than the widest segment. Behind released_to>=:from it keeps a question about a short time from looking at all segments since.
 */
#define SEGMENT_UNTIL                                                                              \
	"released_to<:until+" SQL_LONG_USEC                                                        \
	"+ifnull((SELECT value FROM counter WHERE name='segment_usec'),1<<62)"
/* Behind the columns, what the marks `m` lead to; put further conditions of `m` after it. */
#define MARKED_SEG                                                                                 \
	" CROSS JOIN segment s ON s.id=m.seg CROSS JOIN claim_seg c ON c.seg=m.seg"                \
	" AND c.port=m.port AND c.rel=m.opened_usec-s.base_usec AND c.claim=m.claim"
#define MARKED_LONG                                                                                \
	" CROSS JOIN claim_long c ON m.seg=0 AND c.port=m.port AND c.opened_usec=m.opened_usec"    \
	" AND c.claim=m.claim"
#define ROWS_OF_HOT COLUMNS_OF_HOT " FROM claim_hot c"
#define COLUMNS_OF_HOT                                                                                 \
	"SELECT NULL, c.claim, c.holders, c.port, c.opened_usec, c.opened_slack, c.opened_usec+c.dur," \
	" c.closed_slack, " RELEASED_OF_C ", c.meta, c.rport, c.raddr, c.process"
/* What may be long of claim_hot, as the index claim_hot_long has it: nothing else lasted an hour. */
#define SQL_HOT_LONG "dur+ifnull(linger,0)*1000+ifnull(opened_slack,0)*1000>=" SQL_LONG_USEC
/*
 * The two halves of the claims of claim_hot that may have been opened before :until: one of them has them, the other none. Where the
 * window ended an hour before anything in it was released, that is only what took an hour, and the rest is not looked through.
 */
#define SQL_HOT_FROM "ifnull((SELECT value FROM counter WHERE name='hot_from_usec'),0)"
#define ROWS_OF_HOT_LATE                                                                           \
	COLUMNS_OF_HOT " FROM (SELECT 1 WHERE " SQL_HOT_FROM "<:until+" SQL_LONG_USEC              \
		       ") CROSS JOIN claim_hot c"
#define ROWS_OF_HOT_EARLY                                                                          \
	COLUMNS_OF_HOT " FROM (SELECT 1 WHERE " SQL_HOT_FROM ">=:until+" SQL_LONG_USEC             \
		       ") CROSS JOIN claim_hot c INDEXED BY claim_hot_long"
#define ROWS_OF_OPEN                                                                               \
	"SELECT NULL, c.claim, 1, c.port, c.opened_usec, c.opened_slack, c.closed_usec,"           \
	" c.closed_slack, NULL, c.meta, c.rport, c.raddr, c.process FROM claim_open c"

/*
 * A row of `coalesced` as it is, the fifth kind: from the first opening to the last release. It has no claim's times, and its
 * port is the lowest. ROWS_OF_COALESCED_ON(port) says which one it is to show.
 */
#define ROWS_OF_COALESCED_ON(port)                                                                 \
	"SELECT NULL, c.id, 0, " port                                                              \
	", c.opened_usec, c.opened_slack, c.closed_usec, NULL, c.released_usec,"                   \
	" c.meta, c.rport, c.raddr, c.process FROM coalesced c"
#define ROWS_OF_COALESCED ROWS_OF_COALESCED_ON("c.port")
/* From the first opening of a row to its last release it is less: an hour, and the second in which all were opened. */
#define SQL_COALESCED_USEC "3601000000"
/* Beside CLAIM_JOINS, for the last of CLAIM_COLUMNS. */
#define COALESCED_JOIN                                                                             \
	" LEFT JOIN coalesced k ON r.meta&" SQL_NUMBER(META_COALESCED) " AND k.id=r.claim"

/*
 * The same for sums: a row per claim, each on its port, with openings spread evenly from the first to the last, one with the
 * shortest life, one with the longest and the others with the mean, the last of them released at the end. So their number, ports, sums and extremes
 * are right, and nobody is shown one of them. Put the bounds of `c` in the WHERE of the FROM, and those of the row behind it.
 */
#define SPREAD_FROM(low, high) "coalesced c CROSS JOIN port_list(c.ports," low "," high ") m"
#define SPREAD_OPENED          "(c.opened_usec+c.spread_usec*m.key/(c.n-1))"
#define SPREAD_LIFE                                                                                \
	"CASE m.key WHEN 0 THEN c.shortest_usec WHEN 1 THEN c.longest_usec ELSE"                   \
	" (c.life_usec-c.shortest_usec-c.longest_usec)/(c.n-2) END"
#define SPREAD_CLOSED "min(c.closed_usec," SPREAD_OPENED "+" SPREAD_LIFE ")"
#define SPREAD_RELEASED                                                                            \
	"CASE m.key WHEN c.n-1 THEN c.released_usec ELSE"                                          \
	" min(c.released_usec," SPREAD_CLOSED "+c.linger_usec/c.n) END"
#define ROWS_OF_SPREAD_ON(low, high)                                                               \
	"SELECT NULL, c.id, 0, m.value, " SPREAD_OPENED ", NULL, " SPREAD_CLOSED                   \
	", NULL, " SPREAD_RELEASED                                                                 \
	", c.meta, c.rport, c.raddr, c.process FROM " SPREAD_FROM(low, high)
#define ROWS_OF_SPREAD ROWS_OF_SPREAD_ON("0", "65535")

/* Names of the enums of common/claim.h, in SQL. A test holds them against protocol_name() and the others. */
#define SQL_PROTOCOL(r)                                                                            \
	"CASE " r ".meta" META_PROTOCOL                                                            \
	" WHEN 0 THEN 'tcp' WHEN 1 THEN 'udp' WHEN 2 THEN 'udplite' ELSE 'mptcp' END"
#define SQL_FAMILY(r) "CASE " r ".meta" META_FAMILY " WHEN 0 THEN 'ipv4' ELSE 'ipv6' END"
#define SQL_ROLE(r)   SQL_ROLE_OF(r ".meta")
#define SQL_ROLE_OF(meta)                                                                          \
	"CASE " meta META_ROLE " WHEN 0 THEN 'connected' WHEN 1 THEN 'listening' WHEN 2 THEN"      \
	" 'bound' WHEN 3 THEN 'accepted' END"
#define SQL_ATTRIBUTION(r)                                                                         \
	"CASE " r ".meta" META_ATTRIBUTION                                                         \
	" WHEN 0 THEN 'none' WHEN 1 THEN 'event' WHEN 2 THEN 'iter'"                               \
	" WHEN 3 THEN 'procfd' WHEN 4 THEN 'cgroup' WHEN 5 THEN 'uid' ELSE 'kernel' END"
#define SQL_SOURCE(r)                                                                              \
	"CASE " r ".meta" META_SOURCE                                                              \
	" WHEN 0 THEN 'sweep' WHEN 1 THEN 'destroy' WHEN 2 THEN 'events'"                          \
	" ELSE 'procnet' END"
#define SQL_EXE_NOTE(a)                                                                            \
	"CASE " a ".exe_note WHEN 1 THEN 'deleted' WHEN 2 THEN 'memfd' WHEN 3 THEN"                \
	" 'other-mount-namespace' END"

/* Until when the stretch `c` of `coverage` watched: the last one as far as its session has seen, which is written with every
 * commit; the others say so themselves. */
#define SQL_WATCHED_UNTIL                                                                          \
	"max(c.until_usec,ifnull((SELECT s.last_seen_usec FROM session s WHERE s.id=c.session"     \
	" AND c.id=(SELECT max(id) FROM coverage)),0))"

/*
 * The columns of a claim for people, in their order; the one list that the views, JSON, CSV and the manual share.
 * FIRST and X(name, SQL): `r` is a row as above, `p` its process, `a` its app, `l` its local, `n` its netns; ADDRESS(blob)
 * gives the text of a 4 or 16 byte address, JSON(text) makes JSON of what is JSON text, where that matters. `k` is its row of
 * `coalesced`, where it has one, and PORTS the JSON text of the distinct ports of that.
 */
#define CLAIM_COLUMNS(FIRST, X, ADDRESS, JSON, PORTS)                                              \
	FIRST("port", "r.port")                                                                    \
	X("protocol", SQL_PROTOCOL("r"))                                                           \
	X("family", SQL_FAMILY("r"))                                                               \
	X("netns", "nullif(n.inode,0)")                                                            \
	X("netns_name", "n.name")                                                                  \
	X("local_address", "nullif(l.address,'')")                                                 \
	X("remote_address", ADDRESS("r.raddr"))                                                    \
	X("remote_port", "r.rport")                                                                \
	X("role", SQL_ROLE("r"))                                                                   \
	X("opened_usec", "r.opened_usec")                                                          \
	X("opened_after_usec", "r.opened_usec-r.opened_slack*1000")                                \
	X("closed_usec", "r.closed_usec")                                                          \
	X("closed_after_usec", "r.closed_usec-r.closed_slack*1000")                                \
	X("released_usec", "r.released_usec")                                                      \
	X("pid", "p.pid")                                                                          \
	X("comm", "a.comm")                                                                        \
	X("exe", "a.exe")                                                                          \
	X("uid", "a.uid")                                                                          \
	X("user", "NULL")                                                                          \
	X("unit", "a.unit")                                                                        \
	X("cgroup", "a.cgroup")                                                                    \
	X("parent_pid", "p.parent_pid")                                                            \
	X("parent_comm", "p.parent_comm")                                                          \
	X("attribution", SQL_ATTRIBUTION("r"))                                                     \
	X("source", SQL_SOURCE("r"))                                                               \
	X("holders", JSON(SQL_HOLDERS("r")))                                                       \
	X("exe_note", SQL_EXE_NOTE("a"))                                                           \
	X("count", "ifnull(k.n,1)")                                                                \
	X("ports", JSON(PORTS))

/* JSON array text of the further holders; '[]' where there are none. */
#define SQL_HOLDERS(r)                                                                             \
	"CASE WHEN " r                                                                             \
	".holders THEN (SELECT json_group_array(json_object('pid',hp.pid,'comm',ha.comm,"          \
	"'exe',ha.exe,'unit',ha.unit,'from_usec',h.from_usec,'until_usec',h.until_usec)) FROM"     \
	" (SELECT * FROM holder WHERE claim=" r ".claim ORDER BY n) h"                             \
	" LEFT JOIN process hp ON hp.id=h.process LEFT JOIN app ha ON ha.id=hp.app) ELSE '[]' END"

#define CLAIM_JOINS                                                                                \
	" LEFT JOIN process p ON p.id=r.process LEFT JOIN app a ON a.id=p.app"                     \
	" LEFT JOIN local l ON l.id=r.meta" META_LOCAL " LEFT JOIN netns n ON n.id=l.netns"

/* The same of a failure: `r` is a row of `failure`, `h` and `ha` its holder's process and app, the rest as above. Who binds has no
 * remote end: there it is that of the claim that had the port. */
#define FAILURE_BINDS "r.call=1"
#define FAILURE_COLUMNS(FIRST, X, ADDRESS)                                                         \
	FIRST("usec", "r.usec")                                                                    \
	X("call", SQL_CALL("r"))                                                                   \
	X("error", SQL_ERROR("r"))                                                                 \
	X("port", "r.port")                                                                        \
	X("protocol", SQL_PROTOCOL("r"))                                                           \
	X("family", SQL_FAMILY("r"))                                                               \
	X("netns", "nullif(n.inode,0)")                                                            \
	X("netns_name", "n.name")                                                                  \
	X("local_address", "nullif(l.address,'')")                                                 \
	X("remote_address", "CASE WHEN NOT " FAILURE_BINDS " THEN " ADDRESS("r.raddr") " END")     \
	X("remote_port", "CASE WHEN NOT " FAILURE_BINDS " THEN r.rport END")                       \
	X("pid", "p.pid")                                                                          \
	X("comm", "a.comm")                                                                        \
	X("exe", "a.exe")                                                                          \
	X("uid", "a.uid")                                                                          \
	X("user", "NULL")                                                                          \
	X("unit", "a.unit")                                                                        \
	X("holder_pid", "h.pid")                                                                   \
	X("holder_comm", "ha.comm")                                                                \
	X("holder_exe", "ha.exe")                                                                  \
	X("holder_uid", "ha.uid")                                                                  \
	X("holder_unit", "ha.unit")                                                                \
	X("holder_role",                                                                           \
		"CASE WHEN r.holder_meta IS NOT NULL THEN " SQL_ROLE_OF("r.holder_meta") " END")   \
	X("holder_opened_usec", "r.holder_opened_usec")                                            \
	X("holder_remote_address", "CASE WHEN " FAILURE_BINDS " THEN " ADDRESS("r.raddr") " END")  \
	X("holder_remote_port", "CASE WHEN " FAILURE_BINDS " THEN r.rport END")

#define SQL_CALL(r)  "CASE " r ".call WHEN 1 THEN 'bind' ELSE 'connect' END"
#define SQL_ERROR(r) "CASE " r ".error WHEN 1 THEN 'in_use' ELSE 'not_available' END"

#define FAILURE_JOINS                                                                              \
	" LEFT JOIN process p ON p.id=r.process LEFT JOIN app a ON a.id=p.app"                     \
	" LEFT JOIN process h ON h.id=r.holder LEFT JOIN app ha ON ha.id=h.app"                    \
	" LEFT JOIN local l ON l.id=r.meta" META_LOCAL " LEFT JOIN netns n ON n.id=l.netns"
