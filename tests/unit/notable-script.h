/* SPDX-License-Identifier: MIT */
#pragma once

/* A notable over a store of its own. What it writes to standard error is read back. */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/escape.h"
#include "daemon/ledger/notable_private.h"
#include "tests/support/store_fixture.h"

#define PORT        40000 /* inside of the ephemeral range ... */
#define CHOSEN_PORT 65000 /* ... and outside */
#define BASELINE_OF_NOTHING                                                                        \
	"<5>test: found 0 programs and 0 listeners at the first sweep: from here on, new ones are said\n"

struct scene {
	struct fixture f;
	struct notable *notable;
	struct ledger_sink sink;
	unsigned heard; /* what came through to the sink behind */
	int said;       /* a file in the place of standard error */
	int standard_error;
};

static inline void hear_claim(void *context, struct claim *claim)
{
	struct scene *s = context;

	(void)claim;
	s->heard++;
}

static inline void hear_coverage(void *context, const struct coverage *c, usec_t from_wall)
{
	(void)c;
	(void)from_wall;
	hear_claim(context, NULL);
}

/* A session begins. */
static inline void begin(struct scene *s)
{
	const struct ledger_sink next = {
		.context = s,
		.opened = hear_claim,
		.changed = hear_claim,
		.released = hear_claim,
		.coverage_begins = hear_coverage,
	};
	const struct coverage coverage = {.ephemeral = {.low = 32768, .high = 60999}};

	fixture_open(&s->f);
	assert_int_equal(notable_new(s->f.store, &next, s->f.now, &s->notable), 0);
	s->sink = notable_sink(s->notable);
	notable_coverage(s->notable, &coverage);
}

static inline void end(struct scene *s)
{
	s->notable = notable_free(s->notable);
	s->f.store = store_free(s->f.store);
}

/* The first whole sweep. */
static inline void sweep(struct scene *s)
{
	const struct coverage coverage = {0};

	s->sink.coverage_begins(s->sink.context, &coverage, s->f.now.wall);
}

static inline void commit_all(struct scene *s)
{
	assert_int_equal(store_begin(s->f.store), 0);
	assert_int_equal(notable_write(s->notable, s->f.now), 0);
	commit(&s->f);
	notable_committed(s->notable);
	assert_false(notable_waits(s->notable));
}

static inline const char *said(struct scene *s)
{
	static char text[1 << 20];
	ssize_t n;

	n = pread(s->said, text, sizeof(text) - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	assert_int_equal(ftruncate(s->said, 0), 0);
	assert_int_equal(lseek(s->said, 0, SEEK_SET), 0);
	return text;
}

static inline void assert_said(struct scene *s, const char *expected)
{
	assert_string_equal(said(s), expected);
}

static inline unsigned count_lines(const char *text, const char *with)
{
	unsigned count = 0;

	for (; (text = strstr(text, with)); text += strlen(with))
		count++;
	return count;
}

static inline int set_up(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	fixture_init(&s->f);
	log_open("test", LOG_LEVEL_INFO);
	s->said = memfd_create("said", MFD_CLOEXEC);
	s->standard_error = dup(STDERR_FILENO);
	assert_true(dup2(s->said, STDERR_FILENO) >= 0);
	begin(s);
	*state = s;
	return 0;
}

/* A database that has been watched before. */
static inline int set_up_watched(void **state)
{
	struct scene *s;

	set_up(state);
	s = *state;
	sweep(s);
	commit_all(s);
	assert_said(s, BASELINE_OF_NOTHING);
	end(s);
	begin(s);
	return 0;
}

static inline int tear_down(void **state)
{
	struct scene *s = *state;

	dup2(s->standard_error, STDERR_FILENO);
	close(s->standard_error);
	close(s->said);
	s->notable = notable_free(s->notable);
	fixture_done(&s->f);
	free(s);
	return 0;
}

static inline struct process *program(const char *exe, int32_t pid)
{
	struct process *p = fixture_process(pid, "worker");

	free(p->exe);
	p->exe = exe ? strdup(exe) : NULL;
	return p;
}

/* A claim of a process, told as opened; takes the process. */
static inline void tell(struct scene *s, struct process *p, enum protocol protocol, enum role role,
	uint16_t port, bool preexisting)
{
	struct claim c = fixture_claim(&s->f, port);

	c.protocol = (uint8_t)protocol;
	c.role = (uint8_t)role;
	c.preexisting = preexisting;
	c.closed_boot = USEC_UNSET;
	c.opener = p;
	s->sink.opened(s->sink.context, &c);
	claim_done(&c);
}

static inline void connects(struct scene *s, const char *exe, int32_t pid)
{
	tell(s, program(exe, pid), PROTOCOL_TCP, ROLE_CONNECTED, PORT, false);
}
