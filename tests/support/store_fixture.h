/* SPDX-License-Identifier: MIT */
#pragma once

/* A store in a directory of its own, claims to put into it, and what a reader must see of them in the views. */

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "daemon/ledger/store_private.h"
#include "daemon/schema.h"
#include "tests/support/full.h"

#define FIXTURE_WALL  UINT64_C(1700000000123456)
#define FIXTURE_BOOT  UINT64_C(5000000000)
#define FIXTURE_NETNS 7 /* cookie of the namespace that fixture_open() tells */
#define FIXTURE_INODE UINT64_C(4026531840)
/* `sets` of a rollup that are none, as SQL: without the numbers, the lives, the sketch and the ports that they should have. */
#define FIXTURE_NO_SETS                                                                            \
	{                                                                                          \
		"x''", "x'0000000100ff'", "x'000000000401020304'", "x'000000000000'"               \
	}

/* What most tests leave as it is. */
#define OTHER_SETTINGS                                                                             \
	.activity_hour_usec = 396 * USEC_PER_DAY, .activity_day_usec = 1827 * USEC_PER_DAY,        \
	.user_share_permille = 500, .coalesce_above = UINT64_MAX

struct fixture {
	char path[64];
	int dir;
	struct store *store;
	struct store_session before;
	uint8_t boot_id[BOOT_ID_BYTES];
	struct now now;
	uint64_t random;
};

static inline void fixture_init(struct fixture *f)
{
	umask(0); /* what the store makes has its own mode */
	*f = (struct fixture){
		.now = {.boot = FIXTURE_BOOT, .wall = FIXTURE_WALL}, .random = 0x9e3779b97f4a7c15};
	assert_true(snprintf(f->path, sizeof(f->path), "%s/store-XXXXXX", database_directory()) <
		    (int)sizeof(f->path));
	assert_non_null(mkdtemp(f->path));
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dir >= 0);
	memset(f->boot_id, 0xb0, sizeof(f->boot_id));
}

static inline int fixture_try_open(struct fixture *f)
{
	int32_t pid = 0;

	return store_open(f->dir, f->boot_id, f->now, "1.2.3", &f->store, &f->before, &pid);
}

static inline void fixture_open(struct fixture *f)
{
	struct netns netns = {.cookie = FIXTURE_NETNS, .inode = FIXTURE_INODE};

	assert_int_equal(fixture_try_open(f), 0);
	assert_int_equal(store_put_netns(f->store, &netns), 0);
}

static inline void fixture_done(struct fixture *f)
{
	DIR *dir;
	struct dirent *e;

	f->store = store_free(f->store);
	dir = opendir(f->path);
	assert_non_null(dir);
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			assert_int_equal(unlinkat(f->dir, e->d_name, 0), 0);
	closedir(dir);
	close(f->dir);
	assert_int_equal(rmdir(f->path), 0);
}

/* The set-up of cmocka: a directory, and no database in it. */
static inline int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fixture_init(f);
	*state = f;
	return 0;
}

/* The same with the store open. */
static inline int fixture_setup_open(void **state)
{
	(void)fixture_setup(state);
	fixture_open(*state);
	return 0;
}

static inline int fixture_teardown(void **state)
{
	fixture_done(*state);
	free(*state);
	return 0;
}

/* xorshift64*, so that every run is the same. */
static inline uint64_t fixture_random(struct fixture *f, uint64_t below)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return f->random * UINT64_C(0x2545f4914f6cdd1d) % below;
}

static inline struct process *fixture_process(int32_t pid, const char *comm)
{
	struct process *p = process_new();

	assert_non_null(p);
	p->pid = pid;
	p->start_boot = 1000u * (usec_t)pid;
	p->comm = strdup(comm);
	p->exe = strdup("/usr/bin/program");
	p->uid = 1000;
	p->parent_pid = 1;
	p->parent_comm = strdup("systemd");
	p->unit = strdup("user@1000.service");
	p->cgroup = strdup("/user.slice");
	return p;
}

/* A released claim of an accepting client, with a number; whoever gets it owns it. */
static inline struct claim fixture_claim(struct fixture *f, uint16_t port)
{
	struct claim c = {
		.cookie = 100u + port,
		.netns = FIXTURE_NETNS,
		.local = {.address = {FAMILY_IPV4, {127, 0, 0, 1}}, .port = port},
		.remote = {.address = {FAMILY_IPV4, {192, 0, 2, 1}}, .port = 443},
		.attribution = ATTRIBUTION_PROCFD,
		.opened_boot = f->now.boot,
		.opened_after_boot = f->now.boot - 1000001,
		.opened_wall = f->now.wall,
		.closed_boot = f->now.boot + 3000000,
		.closed_after_boot = f->now.boot + 2000000,
		.released_boot = f->now.boot + 63000000,
	};

	store_number(f->store, &c);
	return c;
}

static inline void random_address(struct fixture *f, struct address *a)
{
	bool ipv6 = fixture_random(f, 2) == 0;

	*a = (struct address){.family = ipv6 ? FAMILY_IPV6 : FAMILY_IPV4};
	for (size_t i = 0; i < address_size(a); i++)
		a->bytes[i] = (uint8_t)fixture_random(f, 256);
	if (!ipv6)
		return;
	for (size_t i = 0; i < 8; i++) /* runs of zero groups, and groups with leading zeros */
		switch (fixture_random(f, 8)) {
		case 0:
			a->bytes[2 * i] = 0;
			break;
		case 1:
		case 2:
		case 3:
		case 4:
			a->bytes[2 * i] = a->bytes[2 * i + 1] = 0;
			break;
		default:
			break;
		}
	if (fixture_random(f, 8) == 0)
		memset(a->bytes, 0, 12);
	*a = address_from_kernel(AF_INET6, a->bytes); /* none is v4-mapped */
}

/* Any combination of what a claim can be. `length` bounds its duration. */
static inline struct claim random_claim(
	struct fixture *f, struct process *const processes[], size_t count, usec_t length)
{
	struct claim c = fixture_claim(f, (uint16_t)(49152 + fixture_random(f, 50)));

	c.cookie = f->random;
	c.protocol = (uint8_t)fixture_random(f, PROTOCOL_COUNT);
	c.role = (uint8_t)fixture_random(f, ROLE_COUNT);
	c.attribution = (uint8_t)fixture_random(f, ATTRIBUTION_COUNT);
	c.source = (uint8_t)fixture_random(f, SOURCE_COUNT);
	c.netns = fixture_random(f, 3) == 0 ? 99 : FIXTURE_NETNS;
	random_address(f, &c.local.address);
	random_address(f, &c.remote.address);
	c.remote.port = (uint16_t)(1 + fixture_random(f, 65535));
	if (fixture_random(f, 4) == 0)
		c.remote = (struct endpoint){0};
	c.opened_boot += fixture_random(f, 40) * 1000; /* often the same moment twice on a port */
	c.opened_wall += c.opened_boot - f->now.boot;
	c.opened_after_boot =
		fixture_random(f, 2) == 0 ? USEC_UNSET : c.opened_boot - fixture_random(f, 2000000);
	c.closed_boot = c.opened_boot + fixture_random(f, length);
	c.closed_after_boot = fixture_random(f, 2) == 0 ? USEC_UNSET : c.opened_boot;
	c.released_boot =
		c.closed_boot + (fixture_random(f, 2) == 0 ? 0 : fixture_random(f, 60000000));
	c.preexisting = fixture_random(f, 10) == 0;
	c.end_unseen = fixture_random(f, 10) == 0;
	if (c.preexisting && fixture_random(f, 2) == 0)
		c.opened_after_boot = 0;
	if (fixture_random(f, 10) > 0)
		c.opener = process_ref(processes[fixture_random(f, count)]);
	if (fixture_random(f, 5) == 0) {
		c.holder_count = 1 + (uint32_t)fixture_random(f, 3);
		c.holders = calloc(c.holder_count, sizeof(*c.holders));
		assert_non_null(c.holders);
	}
	for (uint32_t i = 0; i < c.holder_count; i++)
		c.holders[i] = (struct holder){
			.process = process_ref(processes[fixture_random(f, count)]),
			.from_boot = c.opened_boot + i,
			.until_boot = i == 0 ? USEC_UNSET : c.opened_boot + 5000,
		};
	return c;
}

/* What a reader must see, as one line of all columns: NULL is "~". */
static inline void expect_text(struct buf *b, const char *text)
{
	assert_int_equal(buf_append_format(b, "%s|", text ? text : "~"), 0);
}

static inline void expect_number(struct buf *b, uint64_t value, bool known)
{
	assert_int_equal(known ? buf_append_format(b, "%llu|", (unsigned long long)value)
			       : buf_append_string(b, "~|"),
		0);
}

static inline void expect_address(struct buf *b, const struct address *a)
{
	char text[INET6_ADDRSTRLEN];

	if (a->family == FAMILY_NONE) {
		expect_text(b, NULL);
		return;
	}
	/* The C library is the oracle, not our own formatter. */
	assert_non_null(inet_ntop(
		a->family == FAMILY_IPV6 ? AF_INET6 : AF_INET, a->bytes, text, sizeof(text)));
	expect_text(b, text);
}

/* Earlier by whole milliseconds, rounded up. */
static inline usec_t bound(usec_t wall, usec_t boot, usec_t after)
{
	return wall - (boot - after + 999) / 1000 * 1000;
}

static inline void expect_times(struct buf *b, const struct claim *c)
{
	usec_t closed = claim_wall(c, c->closed_boot);
	bool is_closed = c->closed_boot != USEC_UNSET;
	usec_t closed_after = c->end_unseen ? c->closed_boot : c->closed_after_boot;

	expect_number(b, c->opened_wall, true);
	expect_number(b, bound(c->opened_wall, c->opened_boot, c->opened_after_boot),
		c->opened_after_boot != USEC_UNSET);
	expect_number(b, closed, is_closed);
	expect_number(b, bound(closed, c->closed_boot, closed_after),
		is_closed && closed_after != USEC_UNSET);
	expect_number(b, closed + (c->released_boot - c->closed_boot + 999) / 1000 * 1000,
		c->released_boot != USEC_UNSET);
}

static inline void expect_json(struct buf *b, const char *name, const char *text)
{
	if (text)
		assert_int_equal(buf_append_format(b, "\"%s\":\"%s\",", name, text), 0);
	else
		assert_int_equal(buf_append_format(b, "\"%s\":null,", name), 0);
}

static inline void expect_holders(struct buf *b, const struct claim *c)
{
	assert_int_equal(buf_append_string(b, "["), 0);
	for (uint32_t i = 0; i < c->holder_count; i++) {
		const struct holder *h = &c->holders[i];
		const struct process *p = h->process;

		assert_int_equal(buf_append_string(b, i > 0 ? ",{" : "{"), 0);
		if (p->pid > 0)
			assert_int_equal(buf_append_format(b, "\"pid\":%d,", p->pid), 0);
		else
			assert_int_equal(buf_append_string(b, "\"pid\":null,"), 0);
		expect_json(b, "comm", p->comm);
		expect_json(b, "exe", p->exe);
		expect_json(b, "unit", p->unit);
		assert_int_equal(buf_append_format(b, "\"from_usec\":%llu,\"until_usec\":",
					 (unsigned long long)claim_wall(c, h->from_boot)),
			0);
		if (h->until_boot == USEC_UNSET)
			assert_int_equal(buf_append_string(b, "null}"), 0);
		else
			assert_int_equal(buf_append_format(b, "%llu}",
						 (unsigned long long)claim_wall(c, h->until_boot)),
				0);
	}
	assert_int_equal(buf_append_string(b, "]|"), 0);
}

static inline void expect_process(struct buf *b, const struct process *p)
{
	static const struct process nobody = {.uid = UID_UNSET};

	if (!p)
		p = &nobody;
	expect_number(b, (uint64_t)p->pid, p->pid > 0);
	expect_text(b, p->comm);
	expect_text(b, p->exe);
	expect_number(b, p->uid, p->uid != UID_UNSET);
	expect_text(b, NULL); /* user */
	expect_text(b, p->unit);
	expect_text(b, p->cgroup);
	expect_number(b, (uint64_t)p->parent_pid, p->parent_pid > 0);
	expect_text(b, p->parent_comm);
}

/* Appends the line that the view must have for this claim, in the order of CLAIM_COLUMNS. */
static inline void expect_row(struct buf *b, const struct claim *c)
{
	expect_number(b, c->local.port, true);
	expect_text(b, protocol_name((enum protocol)c->protocol));
	expect_text(b, c->local.address.family == FAMILY_IPV6 ? "ipv6" : "ipv4");
	expect_number(b, FIXTURE_INODE, c->netns == FIXTURE_NETNS);
	expect_text(b, NULL); /* netns_name */
	expect_address(b, &c->local.address);
	expect_address(b, &c->remote.address);
	expect_number(b, c->remote.port, c->remote.address.family != FAMILY_NONE);
	expect_text(b, role_name((enum role)c->role));
	expect_times(b, c);
	expect_process(b, c->opener);
	expect_text(b, attribution_name((enum attribution)c->attribution));
	expect_text(b, source_name((enum source)c->source));
	expect_holders(b, c);
	expect_text(b, c->opener ? exe_note_name((enum exe_note)c->opener->exe_note) : NULL);
	expect_number(b, 1, true); /* count */
	expect_text(b, NULL);      /* ports */
}

/* All rows of a query, "~" for NULL, "|" after each column, one line a row, through a connection of its own that may
 * not write. NULL if the database cannot be read. The caller frees it. */
static inline char *read_rows(const struct fixture *f, const char *sql)
{
	struct buf b = {0};
	char path[128];
	sqlite3 *db = NULL;
	sqlite3_stmt *row = NULL;
	int code;

	snprintf(path, sizeof(path), "%s/%s", f->path, SCHEMA_FILE);
	code = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_prepare_v2(db, sql, -1, &row, NULL);
	if (code == SQLITE_OK)
		while ((code = sqlite3_step(row)) == SQLITE_ROW) {
			for (int i = 0; i < sqlite3_column_count(row); i++)
				expect_text(&b, (const char *)sqlite3_column_text(row, i));
			assert_int_equal(buf_append_string(&b, "\n"), 0);
		}
	if (code != SQLITE_DONE)
		print_error("%s: %s\n", sql, sqlite3_errmsg(db));
	sqlite3_finalize(row);
	sqlite3_close(db);
	assert_int_equal(buf_put_u8(&b, 0), 0);
	if (code == SQLITE_DONE)
		return (char *)b.data;
	buf_done(&b);
	return NULL;
}

static inline void assert_rows(const struct fixture *f, const char *sql, const char *expected)
{
	_cleanup_(free_p) char *rows = read_rows(f, sql);

	assert_non_null(rows);
	assert_string_equal(rows, expected);
}

static inline void commit(struct fixture *f)
{
	assert_int_equal(store_commit(f->store, f->now, true), 0);
}

/* Until nothing is due. */
static inline void maintain(struct fixture *f)
{
	int r, steps = 0;

	while ((r = store_maintain(f->store, f->now)) > 0)
		assert_true(++steps < 10000);
	assert_int_equal(r, 0);
}

/* Makes claim_hot old enough to be sealed, and seals it. */
static inline void seal_all(struct fixture *f)
{
	struct now now = f->now;

	f->now.wall += 2 * USEC_PER_DAY;
	f->now.boot += 2 * USEC_PER_DAY;
	maintain(f);
	f->now = now;
	assert_rows(f, "SELECT count(*) FROM claim_hot", "0|\n");
}

static inline int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The lines of a text, sorted; they point into it. *ret is the caller's to free. */
static inline size_t sort_lines(char *text, char ***ret)
{
	size_t count = 0;

	for (const char *c = text; c && *c; c++)
		count += *c == '\n';
	*ret = calloc(count + 1, sizeof(**ret));
	assert_non_null(*ret);
	for (size_t i = 0; i < count; i++)
		(*ret)[i] = strsep(&text, "\n");
	qsort(*ret, count, sizeof(**ret), compare_lines);
	return count;
}

/* The view shows exactly these claims. */
static inline void assert_claims(
	const struct fixture *f, const char *view, const struct claim *claims, size_t count)
{
	struct buf b = {0};
	char sql[64];
	_cleanup_(free_p) char *rows = NULL;
	_cleanup_(free_p) char **seen = NULL, **expected = NULL;

	for (size_t i = 0; i < count; i++) {
		expect_row(&b, &claims[i]);
		assert_int_equal(buf_append_string(&b, "\n"), 0);
	}
	assert_int_equal(buf_put_u8(&b, 0), 0);
	snprintf(sql, sizeof(sql), "SELECT * FROM %s", view);
	rows = read_rows(f, sql);
	assert_non_null(rows);
	assert_int_equal(sort_lines(rows, &seen), count);
	assert_int_equal(sort_lines((char *)b.data, &expected), count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(seen[i], expected[i]);
	buf_done(&b);
}

static inline void claims_done(struct claim *claims, size_t count)
{
	for (size_t i = 0; i < count; i++)
		claim_done(&claims[i]);
}

/* Programs and processes of every kind, for random_claim(). */
#define FIXTURE_PROCESSES 12
static inline void fixture_processes(struct process *processes[static FIXTURE_PROCESSES])
{
	for (int i = 0; i < FIXTURE_PROCESSES; i++) {
		struct process *p = fixture_process(100 + i, i % 2 ? "curl" : "nc");

		p->exe_note = (uint8_t)(i % 4);
		p->pidfd_inode = (uint64_t)i;
		if (i == 5) { /* known by its uid only */
			free(p->comm);
			free(p->exe);
			free(p->unit);
			free(p->parent_comm);
			p->comm = p->exe = p->unit = p->parent_comm = NULL;
			p->pid = p->parent_pid = 0;
			p->start_boot = USEC_UNSET;
		}
		if (i == 6)
			p->uid = UID_UNSET;
		processes[i] = p;
	}
}

static inline void processes_done(struct process *processes[static FIXTURE_PROCESSES])
{
	for (int i = 0; i < FIXTURE_PROCESSES; i++)
		process_unref(processes[i]);
}
