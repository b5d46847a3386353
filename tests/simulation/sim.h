/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A whole life of the ledger process in one thread, without a clock of its own: kernel and capture are models (world.c,
 * capture.c), the disk is one that fails (tests/support/disk.h), and between them runs what the daemon runs, from the bytes of
 * the sighting stream to the rows of the database (session.c). All that happens comes of a seed. At the end the database is
 * held against what was true (proof.c).
 */

#include "common/stream.h"
#include "daemon/ledger/batch.h"
#include "daemon/ledger/keeper_private.h"
#include "daemon/ledger/store_private.h"

#define TENURES    400 /* of all sockets, in one run */
#define PEOPLE     120 /* processes, in one run */
#define PIDS       7   /* they have these pids, one after the other */
#define PORTS      12  /* and few ports, so that each is used again and again */
#define RING_MAX   512 /* records in the ring at once */
#define OFFSETS    64  /* that the clocks had to each other, in all boots */
#define ABSENCES   64
#define HOME       7 /* the namespace that is swept */
#define ABROAD     9
#define HOME_INODE UINT64_C(4026531840)
#define NOBODY     UINT32_MAX
#define ALL        15u

/* One process. A pid is used again; a pid with its start is not. */
struct person {
	int32_t pid;
	usec_t start;
	uint32_t ref; /* in the present stream; 0: not introduced */
};

/* What is true of one claim, and what became of it. Its local address is its number, so that each row says whose it is. */
struct tenure {
	uint64_t cookie;
	unsigned boot;
	uint16_t port;
	uint8_t protocol, role;
	bool abroad, ipv6;
	uint32_t opener, heir; /* of sim.people; heir: has it open, too; NOBODY */
	uint32_t before;       /* of the same socket and port; NOBODY: none */
	usec_t opened, closed,
		released; /* boottime; closed and released: USEC_UNSET while they are to come */
	int64_t offset;   /* wall - boottime, when it was opened */

	/* what the kernel's programs did with it */
	bool in_ring, marked, lost, end_lost;
	/* what capture knows of it, in this stream */
	bool known, lingers, seen_lingering, absent, by_event, over;
	usec_t since; /* surely there then */
	/* what the ledger was given */
	bool told;      /* this session: on its way, or folded */
	usec_t told_at; /* boottime: for the first time in this session */
	bool ever_told, committed, durable;
	bool excused; /* whoever had heard of it was killed: it is in a gap, or in the database */
	usec_t missed_at; /* boottime: a sweep that did not show it told so for the first time; USEC_UNSET */
	bool swept; /* a sweep that the ledger got has shown it */
};

enum ring_kind {
	RING_OPENED,
	RING_WHOLE, /* an end that has the opening, too: that had no room */
	RING_CLOSED,
};
struct ring_record {
	enum ring_kind kind;
	uint32_t tenure;
	usec_t at;
};

/* The events' ring, in the kernel. Positions count records. */
struct ring {
	uint64_t generation; /* 0: there is none */
	struct ring_record records[RING_MAX];
	uint64_t head, kept, room;
	uint64_t lost, lost_ends;
	usec_t begun;
};

/* A time in which nobody watched, and nobody recorded. */
struct absence {
	usec_t from, until; /* wall; until: USEC_UNSET while it lasts */
};

struct sim {
	uint64_t seed, random;
	bool trace;

	/* the world */
	struct now clock;
	unsigned boot;
	struct tenure tenures[TENURES];
	uint32_t tenure_count;
	struct person people[PEOPLE];
	uint32_t people_count;
	uint64_t next_cookie;
	struct ring ring;
	struct {
		unsigned boot;
		int64_t offset; /* wall - boot */
	} offsets[OFFSETS];
	size_t offset_count;
	bool steps; /* may the clock be set? */
	struct absence absences[ABSENCES];
	size_t absence_count;

	/* capture */
	bool events;   /* the rung; else sweeps and the kernel's word of some ends */
	bool outlives; /* somebody holds the ring while no daemon runs */
	bool running, stream_broken;
	uint64_t read; /* position in the ring */
	uint64_t sweeps;
	usec_t whole_begin; /* of the last whole sweep of this stream; 0 */
	uint32_t next_ref;
	uint64_t barrier;
	struct buf out, in;
	/* what the ring has lost, as the ledger was told, has committed, and has on the disk, of this generation */
	uint64_t lost_told, lost_committed, lost_durable;
	uint64_t lost_least, lost_most; /* of the generations before */
	uint64_t
		lost_pending; /* of these, committed, and on the disk with the next durable commit */

	/* the ledger process */
	struct keeper keeper;
	struct keeper_options options;
	int capture_fd, supervisor_fd, control_fd, state_fd;
	char path[64];
	bool watched; /* ... and the disk knows it */
	uint64_t commits;
	usec_t disk_fails_until; /* boottime; 0: it does not */
	usec_t woken_at;         /* boottime: when the machine last went on after a suspend */
	usec_t disk_healed_at;   /* boottime: when it worked again */
	struct buf control_in;
	uint64_t asked, answered;
	bool degraded;

	/* what was seen of it */
	struct {
		uint64_t made, recorded, lost, excused, kills, cuts, faults, steps, commits,
			answers, overcounted, replayed;
	} count;
};

/* sim.c */
/* The disk works, from now on. */
void heal_disk(struct sim *s);
uint64_t draw(struct sim *s, uint64_t below);
bool chance(struct sim *s, unsigned percent);
/* Says what is wrong, and how to see it again; does not return. */
_Noreturn void wrong(struct sim *s, const char *format, ...) _printf_(2, 3);
void trace(struct sim *s, const char *format, ...) _printf_(2, 3);

/* world.c: the kernel. */
void world_begin(struct sim *s);
void world_open(struct sim *s);
void world_close(struct sim *s, uint32_t i);
/* Those that are open now: one of them; NOBODY. */
uint32_t world_pick_open(struct sim *s);
void world_pass(struct sim *s, usec_t usec); /* the clocks only */
void world_set_clock(struct sim *s, int64_t by_usec);
void world_reboot(struct sim *s);
void ring_begin(struct sim *s);
void ring_end(struct sim *s, bool power);
void absence_begin(struct sim *s);
void absence_end(struct sim *s, usec_t boot);

/* capture.c: a model of it; what it says goes to sim.out. */
void capture_hello(struct sim *s);
void capture_begin(struct sim *s);
void capture_drain(struct sim *s, bool partly);
void capture_sweep(struct sim *s, bool whole);
void capture_resync(struct sim *s, bool after_loss);
void capture_say(struct sim *s, const struct record *r);
void capture_look(struct sim *s);
/* The kernel says that it has ended, at once; or nobody does. */
void capture_hear(struct sim *s, uint32_t i);

/* session.c: the ledger process. */
void session_start(struct sim *s);
void session_pump(struct sim *s);
void session_tick(struct sim *s);
void session_ask(struct sim *s);
/* Somebody wants to follow: that is a commit, wherever the ring is. */
void session_follow(struct sim *s);
void session_stop(struct sim *s);
void session_kill(struct sim *s, bool all);
void session_cut(struct sim *s);

/* proof.c */
void prove_answer(struct sim *s);
void prove_all(struct sim *s);
