/* SPDX-License-Identifier: MIT */

#include "daemon/ledger/known.h"

#include <sys/random.h>

#include "daemon/ledger/store_private.h"

/* An unset counter reads as this. */
#define ABSENT ((uint64_t)INT64_MAX)

static int make_key(struct store *s, struct siphash_key *ret)
{
	struct siphash_key key;
	int r;

	if (getrandom(&key, sizeof(key), 0) != sizeof(key))
		return -EIO;
	r = store_begin(s);
	if (r == 0)
		r = store_counter_set(s, COUNTER_KNOWN_KEY_0, key.k[0]);
	if (r == 0)
		r = store_counter_set(s, COUNTER_KNOWN_KEY_1, key.k[1]);
	if (r < 0)
		return store_fail(s, r);
	r = store_commit_step(s);
	if (r == 0)
		*ret = key;
	return r;
}

int known_start(struct store *s, struct siphash_key *ret, usec_t *ret_since)
{
	struct siphash_key key = {{0, 0}};
	uint64_t since = 0;
	int r = store_counter_get(s, COUNTER_KNOWN_SINCE, ABSENT, &since);

	if (r == 0)
		r = store_counter_get(s, COUNTER_KNOWN_KEY_0, 0, &key.k[0]);
	if (r == 0)
		r = store_counter_get(s, COUNTER_KNOWN_KEY_1, 0, &key.k[1]);
	if (r == 0 && key.k[0] == 0 && key.k[1] == 0)
		r = make_key(s, &key);
	if (r < 0)
		return r;
	*ret = key;
	*ret_since = since == ABSENT ? USEC_UNSET : since;
	return 0;
}

int known_each(
	struct store *s, int (*take)(void *context, const struct known_row *k), void *context)
{
	sqlite3_stmt *row = s->statements[STATEMENT_KNOWN_LIST];
	int r;

	while ((r = sql_step(s, STATEMENT_KNOWN_LIST)) > 0) {
		struct known_row k = {
			.program = (uint64_t)sqlite3_column_int64(row, 0),
			.protocol = (int8_t)sqlite3_column_int(row, 1),
			.port = (uint16_t)sqlite3_column_int(row, 2),
		};

		r = take(context, &k);
		if (r != 0)
			break;
	}
	sql_reset(s, STATEMENT_KNOWN_LIST);
	return r;
}

int known_ports(struct store *s, const struct known_row *k, int64_t *ret)
{
	struct binder b = sql_bind(s, STATEMENT_KNOWN_PORTS);

	bind_unsigned(&b, k->program);
	bind_int(&b, k->protocol);
	return sql_value(s, STATEMENT_KNOWN_PORTS, 0, ret);
}

int known_put(struct store *s, const struct known_row *k, const char *name, uint8_t exe_note,
	usec_t seen_wall)
{
	struct binder b;
	int r = store_begin(s);

	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_KNOWN_ADD);
	bind_unsigned(&b, k->program);
	bind_int(&b, k->protocol);
	bind_int(&b, k->port);
	if (k->protocol == KNOWN_PROGRAM) {
		bind_text(&b, name);
		bind_int(&b, exe_note);
	} else {
		bind_null(&b);
		bind_null(&b);
	}
	bind_time(&b, seen_wall);
	r = sql_run(s, STATEMENT_KNOWN_ADD);
	return r < 0 ? store_fail(s, r) : 0;
}

int known_announce(struct store *s, const struct known_row *k, uint64_t claim)
{
	struct binder b;
	int r = store_begin(s);

	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_NEWS_ADD);
	bind_int(&b, k->protocol);
	bind_unsigned(&b, claim);
	r = sql_run(s, STATEMENT_NEWS_ADD);
	if (r == 0) {
		b = sql_bind(s, STATEMENT_NEWS_DROP);
		bind_int(&b, LIMIT_NEWS_KEPT);
		r = sql_run(s, STATEMENT_NEWS_DROP);
	}
	return r < 0 ? store_fail(s, r) : 0;
}

int known_put_since(struct store *s, usec_t wall)
{
	int r = store_begin(s);

	if (r == 0)
		r = store_counter_set(s, COUNTER_KNOWN_SINCE, wall);
	return r < 0 ? store_fail(s, r) : 0;
}
