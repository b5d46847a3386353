/* SPDX-License-Identifier: MIT */
#pragma once

/* Everything that another party can grow has its limit here. Sizes in bytes unless named otherwise. */

/* Control socket (daemon/control): what a client may hold. */
#define LIMIT_FRAME_BYTES      (64u * 1024u) /* one call from a client, NUL included */
#define LIMIT_JSON_DEPTH       32u           /* nesting of one call */
#define LIMIT_CLIENTS          64u           /* connections in all */
#define LIMIT_CLIENTS_RESERVED 4u            /* of those, kept for root */
#define LIMIT_CLIENTS_PER_UID  16u /* connections of one uid (SO_PEERCRED); root has all */
/* queued to one client; a page waits below, Follow too */
#define LIMIT_OUTPUT_BYTES   (1024u * 1024u)
#define LIMIT_CALLS_PER_TURN 16u /* pipelined calls of one client served in one loop turn */
#define LIMIT_TURN_USEC      (100u * 1000u) /* past it no further call is served in this turn */
#define LIMIT_PAGE_ROWS      256u           /* rows in one reply */
#define LIMIT_PAGE_BYTES     (256u * 1024u) /* a reply with this much takes no further row */
#define LIMIT_AHEAD_ROWS     4096u          /* rows that a stream reads ahead of its pages */
#define LIMIT_RECEIPT_ROWS   1024u          /* stretches, and gaps, listed in one receipt */
/* distinct (program, port) and (program, remote) of one audit: 64 MiB */
#define LIMIT_AUDIT_PAIRS 1500000u
#define LIMIT_AUDIT_BYTES (4u * 1024u * 1024u) /* an audit this long lists no further program */
#define LIMIT_STEPS       512u                 /* steps of a window, as pictures show it */
/* of Activity: programs times steps, 16 MiB; programs listed, those with most claims */
#define LIMIT_ACTIVITY_CELLS    4194304u
#define LIMIT_ACTIVITY_PROGRAMS 256u
/* of Occupancy: namespaces times protocols, 0.5 MiB each; ends of claims under way at once, 32 MiB */
#define LIMIT_SERIES           32u
#define LIMIT_OCCUPANCY_ENDS   2097152u
#define LIMIT_LISTENERS        1024u      /* servers in one answer */
#define LIMIT_PRESSURE_ROWS    256u       /* destinations in one answer */
#define LIMIT_PRESSURE_GROUPS  131072u    /* namespaces and destinations in one window */
#define LIMIT_PRESSURE_HELD    1048576u   /* ports of these that are taken at once */
#define LIMIT_PRESSURE_OPENERS 4096u      /* programs counted of one destination */
#define LIMIT_APPS             65536u     /* programs that were ever seen, in one question */
#define LIMIT_APP_PORTS        524288u    /* distinct (program, port) of one question */
#define LIMIT_PLACES           65536u     /* rows of `local` remembered by one query */
#define LIMIT_CLAIMS           100000000u /* rows a client may ask for with `limit` */
#define LIMIT_FLOWS            256u       /* in one call of Annotate */
#define LIMIT_FILTER_PORTS     64u        /* ports in one filter */
#define LIMIT_KEPT_STATEMENTS  16u        /* parsed ones that control keeps for the next question */
#define LIMIT_QUERY_USEC       (20u * 1000u * 1000u) /* one query's own time; past it: QueryTooLong */
#define LIMIT_STALLED_USEC     (10u * 1000u * 1000u) /* a client that takes nothing this long is cut */
#define LIMIT_SYNC_USEC        (5u * 1000u * 1000u) /* a sync unanswered this long: answer, and say so */

/* Client: what a daemon, or a log, may send us. */
#define LIMIT_LINE_BYTES  (1024u * 1024u) /* a longer line of a log goes through as it is */
#define LIMIT_SELF_TEST   1000u /* claims of each kind: they leave that many ports in TIME_WAIT */
#define LIMIT_REPLY_BYTES (16u * 1024u * 1024u)
/* a daemon silent this long is given up: sync and query fit in it */
#define LIMIT_ANSWER_USEC (60u * 1000u * 1000u)
/* the same through ssh, where somebody may have to type a passphrase first */
#define LIMIT_HOST_ANSWER_USEC (180u * 1000u * 1000u)

/* Sighting stream (common/stream). */
#define LIMIT_RECORD_BYTES (64u * 1024u) /* one record, header included */
#define LIMIT_STRING_BYTES 4096u /* one string in a record, after escaping: cut, never refused */
#define LIMIT_HOLDERS      16u   /* holders kept per claim beside its opener; the rest is counted */
/* unsent from capture to ledger; past it: gap and resync */
#define LIMIT_STREAM_BACKLOG (16u * 1024u * 1024u)

/* Capture (daemon/capture). */
#define LIMIT_ENDS                                                                                 \
	65536u /* sockets that the kernel said are gone, until the next sweep; past it: gap */

/* of these, after which a remainder may linger: more ask for a sweep at once, and twice as many for no further event */
#define LIMIT_LINGERING  8192u
#define LIMIT_NAMESPACES 4096u /* network namespaces remembered */
/* processes that the stream has named and no socket names any more, before they are forgotten */
#define LIMIT_REFS 4096u

#define LIMIT_DEPARTED                                                                             \
	65536u /* open sockets remembered that left the tables; past it: the oldest goes */

/* Attribution (daemon/capture/procfs). */
#define LIMIT_PROC_USEC     (200u * 1000u) /* CPU time of one attribution walk */
#define LIMIT_PROCESS_CACHE 16384u         /* processes remembered */
#define LIMIT_CGROUP_CACHE  4096u          /* units remembered by cgroup */
#define LIMIT_SOCKET_CACHE  262144u        /* socket inodes remembered of all processes */

/* Store (daemon/ledger). */
#define LIMIT_PENDING_CLAIMS 65536u /* closed claims that wait in memory while the disk refuses */
#define LIMIT_SET_ASIDE      4u     /* damaged databases that are kept */
/* rollups: those of hours, and of days, have what part of the bytes, at so many a row */
#define LIMIT_ROLLUP_SHARE    16u
#define LIMIT_ROLLUP_BYTES    512u
#define LIMIT_ROLLUP_PROGRAMS 1024u  /* told apart in one segment; the others are one */
#define LIMIT_SEGMENT_ROWS    16384u /* closed claims per sealed segment */
/* each of the maps of apps, processes, addresses and namespaces */
#define LIMIT_INTERN_BYTES (1024u * 1024u)

/* Gaps of one reason, each where the last one ended, are one, up to this: the kernel's ring tells of its losses five times a second */
#define LIMIT_GAP_USEC   (60u * 1000u * 1000u)
#define LIMIT_TOUCH_USEC 1000u /* a hole that is none: the clock was slewed in between */

/* Binds and connects that failed. */
#define LIMIT_FAILURES_MINUTE  600u  /* recorded in one minute; further ones are counted */
#define LIMIT_FAILURES_WAITING 4096u /* that wait for a commit; further ones are counted */
/* the table of them has at most this part of the database's bytes, at so many a row, its indexes included */
#define LIMIT_FAILURES_SHARE 8u
#define LIMIT_FAILURE_BYTES  160u

/* What is announced once, ever (daemon/ledger/notable). */
#define LIMIT_KNOWN_PROGRAMS  16384u /* rows of `known`; further programs are counted, not named */
#define LIMIT_KNOWN_LISTENERS 16384u /* the same of listeners */
#define LIMIT_LISTENER_PORTS  16u    /* of one program and protocol; then it listens on many */
#define LIMIT_NEWS_KEPT       1024u  /* for those who follow what is new */
#define LIMIT_NEWS_WAITING    1024u  /* that wait for a commit; further ones are looked at again */
#define LIMIT_NEWS_HOURLY     60u    /* lines an hour, of each kind; the rest is counted */
#define LIMIT_CROWDS          256u /* destinations whose ports may run short, told apart at a time */

/* Configuration (config/). The length of a line is inih's own limit. */
#define LIMIT_CONFIG_BYTES (1024u * 1024u) /* one file */
#define LIMIT_CONFIG_FILES 256u            /* the main file and its drop-ins */

/* Supervision (daemon/supervise). */
/* of one child, within this time; past it the daemon fails */
#define LIMIT_RESTARTS      5u
#define LIMIT_RESTARTS_USEC (60u * 1000u * 1000u)
