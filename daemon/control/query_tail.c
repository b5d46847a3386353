/* SPDX-License-Identifier: MIT */

/*
 * What follows the newest row, and what the database says of itself.
 *
 * A follower reads two tails: open claims by their number, which rises with the opening, and releases by the count of
 * claim_hot, which has no holes. So what was sealed before it was read is missed, but counted exactly.
 */

#include "daemon/control/query_internal.h"

#include "daemon/schema.h"

static int64_t at_least_0(sqlite3_stmt *statement, int column)
{
	int64_t value = query_column(statement, column);

	return value < 0 ? 0 : value;
}

int query_follow_place(struct query *q, struct follow_place *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(q,
		"SELECT (SELECT max(claim) FROM claim_open),"
		"max(ifnull((SELECT max(id) FROM claim_hot),0),"
		"ifnull((SELECT value-1 FROM counter WHERE name='next_hot'),0))",
		&statement);

	if (r < 0)
		return r;
	*ret = (struct follow_place){
		.claim = at_least_0(statement, 0), .released = at_least_0(statement, 1)};
	return 0;
}

/* All rows of a statement of sql_tail(). */
static int read_rows(sqlite3_stmt *statement, struct rows *rows)
{
	int r;

	while ((r = query_step(statement)) == 1) {
		r = rows_append(rows, statement);
		if (r < 0)
			return r;
	}
	return r;
}

/* Runs the statement of sql_tail() over (after, last]. */
static int read_tail(struct query *q, const struct filter *filter, enum rows_of kind, int64_t after,
	int64_t last, size_t max, struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	char *sql = kind == ROWS_OPEN
			    ? sql_tail(filter, kind, " WHERE c.claim>:after AND c.claim<=:last",
				      " ORDER BY r.claim LIMIT :max")
			    : sql_tail(filter, kind, " WHERE c.id>:after AND c.id<=:last",
				      " ORDER BY r.released_usec,r.claim LIMIT :max");
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(statement, filter);
	query_bind(statement, ":after", after);
	query_bind(statement, ":last", last);
	query_bind(statement, ":max", (int64_t)max);
	return read_rows(statement, rows);
}

/* The first release that can still be read, or the one that comes next. */
static int oldest_hot(struct query *q, int64_t newest, int64_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int64_t oldest;
	int r = query_first(q, "SELECT min(id) FROM claim_hot", &statement);

	if (r < 0)
		return r;
	oldest = query_column(statement, 0);
	*ret = oldest == ROW_NULL ? newest + 1 : oldest;
	return 0;
}

int query_released_after(struct query *q, const struct filter *filter, size_t max,
	int64_t *released, uint64_t *lost, struct rows *rows)
{
	struct follow_place newest;
	int64_t oldest = 0, last;
	int r = query_follow_place(q, &newest);

	if (r == 0 && newest.released < *released)
		r = -ESTALE;
	if (r == 0)
		r = oldest_hot(q, newest.released, &oldest);
	if (r < 0)
		return r;
	if (oldest > *released + 1) {
		*lost += (uint64_t)(oldest - *released - 1);
		*released = oldest - 1;
	}
	last = MIN(newest.released, *released + (int64_t)max);
	r = read_tail(q, filter, ROWS_HOT, *released, last, max, rows);
	if (r < 0)
		return r;
	*released = last;
	return last < newest.released;
}

int query_open_after(struct query *q, const struct filter *filter, size_t max, int64_t last,
	int64_t *claim, struct rows *rows)
{
	size_t wanted = rows->count + max;
	int r = read_tail(q, filter, ROWS_OPEN, *claim, last, max, rows);

	if (r < 0)
		return r;
	if (rows->count == wanted) {
		*claim = rows->row[rows->count - 1].column[ROW_CLAIM];
		return 1;
	}
	*claim = MAX(*claim, last);
	return 0;
}

#define UNATTRIBUTED " AND c.meta" META_ATTRIBUTION " IN (0,4,5)"
_Static_assert(
	ATTRIBUTION_NONE == 0 && ATTRIBUTION_CGROUP == 4 && ATTRIBUTION_UID == 5, "UNATTRIBUTED");

bool row_is_unattributed(const struct row *row)
{
	switch (row->column[ROW_META] >> META_ATTRIBUTION_SHIFT & META_ATTRIBUTION_MASK) {
	case ATTRIBUTION_NONE:
	case ATTRIBUTION_CGROUP:
	case ATTRIBUTION_UID:
		return true;
	}
	return false;
}

int query_unattributed_after(struct query *q, const struct filter *filter, size_t max,
	int64_t after, int64_t last, struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	struct filter wide = *filter;
	char *sql;
	int r;

	wide.uid = wide.pid = -1;
	wide.app = wide.unit = NULL;
	sql = sql_tail(&wide, ROWS_OPEN, " WHERE c.claim>:after AND c.claim<=:last" UNATTRIBUTED,
		" ORDER BY r.claim DESC LIMIT :max");
	r = query_prepare(q, sql, &statement);
	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(statement, &wide);
	query_bind(statement, ":after", after);
	query_bind(statement, ":last", last);
	query_bind(statement, ":max", (int64_t)max);
	return read_rows(statement, rows);
}

#define AMONG_CLAIMS " WHERE c.claim IN (SELECT value FROM json_each(:claims))"

int query_still_unattributed(
	struct query *q, const int64_t *claims, size_t count, int64_t *ret, size_t *ret_count)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	size_t found = 0;
	int r = query_prepare(q,
		"SELECT c.claim FROM claim_open c" AMONG_CLAIMS UNATTRIBUTED " ORDER BY c.claim",
		&statement);

	if (r < 0)
		return r;
	query_bind_numbers(statement, ":claims", claims, count);
	while ((r = query_step(statement)) == 1 && found < count)
		ret[found++] = query_column(statement, 0);
	if (r < 0)
		return r;
	*ret_count = found;
	return 0;
}

int query_open_among(struct query *q, const struct filter *filter, const int64_t *claims,
	size_t count, struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	char *sql = sql_tail(filter, ROWS_OPEN, AMONG_CLAIMS, " ORDER BY r.claim");
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	query_bind_numbers(statement, ":claims", claims, count);
	sql_bind_filter(statement, filter);
	return read_rows(statement, rows);
}

int query_news_place(struct query *q, int64_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(q, "SELECT max(id) FROM news", &statement);

	if (r < 0)
		return r;
	*ret = at_least_0(statement, 0);
	return 0;
}

/* The next announcement; *ret_kind: open or released, 0: its claim is in a segment. 1: there is one; 0: none. */
static int next_news(struct query *q, int64_t after, int64_t *ret_id, bool *ret_program,
	int64_t *ret_claim, enum rows_of *ret_kind)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT n.id,n.protocol=-1,n.claim,EXISTS(SELECT 1 FROM claim_open c WHERE c.claim=n.claim),"
		"EXISTS(SELECT 1 FROM claim_hot c WHERE c.claim=n.claim) FROM news n WHERE n.id>:after"
		" ORDER BY n.id LIMIT 1",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":after", after);
	r = query_step(statement);
	if (r <= 0)
		return r;
	*ret_id = sqlite3_column_int64(statement, 0);
	*ret_program = sqlite3_column_int(statement, 1);
	*ret_claim = sqlite3_column_int64(statement, 2);
	*ret_kind = sqlite3_column_int(statement, 3)   ? ROWS_OPEN
		    : sqlite3_column_int(statement, 4) ? ROWS_HOT
						       : 0;
	return 1;
}

/* The claim, if it matches. */
static int read_claim(struct query *q, const struct filter *filter, enum rows_of kind,
	int64_t claim, struct rows *rows)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	char *sql = sql_tail(filter, kind, " WHERE c.claim=:claim", " LIMIT 1");
	int r = query_prepare(q, sql, &statement);

	sqlite3_free(sql);
	if (r < 0)
		return r;
	sql_bind_filter(statement, filter);
	query_bind(statement, ":claim", claim);
	r = query_step(statement);
	return r == 1 ? rows_append(rows, statement) : r;
}

int query_news_after(struct query *q, const struct filter *filter, int64_t *news, uint64_t *lost,
	bool *ret_program, struct rows *rows)
{
	int64_t newest, id = 0, claim = 0;
	enum rows_of kind = 0;
	int r = query_news_place(q, &newest);

	if (r == 0 && newest < *news)
		return -ESTALE;
	if (r == 0)
		r = next_news(q, *news, &id, ret_program, &claim, &kind);
	if (r <= 0)
		return r;
	*lost += (uint64_t)(id - *news - 1) + (kind == 0);
	*news = id;
	r = kind == 0 ? 0 : read_claim(q, filter, kind, claim, rows);
	return r < 0 ? r : 1;
}

int query_remotes_until(struct query *q, usec_t *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(
		q, "SELECT value FROM counter WHERE name='remotes_until_usec'", &statement);

	if (r >= 0)
		*ret = r == 1 ? (usec_t)at_least_0(statement, 0) : 0;
	return MIN(r, 0);
}

struct port_ranges query_parse_ranges(const char *text)
{
	struct port_ranges ranges = {0};
	unsigned numbers[2], have = 0;

	while (text && *text && ranges.count < PORT_RANGES_MAX) {
		char *end;

		if (*text < '0' || *text > '9') {
			text++;
			continue;
		}
		numbers[have++] = (unsigned)MIN(strtoul(text, &end, 10), (unsigned long)UINT16_MAX);
		text = end;
		if (have < 2)
			continue;
		ranges.range[ranges.count++] =
			(struct port_range){(uint16_t)numbers[0], (uint16_t)numbers[1]};
		have = 0;
	}
	return ranges;
}

static int latest_coverage(struct query *q, struct query_state *state)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(q,
		"SELECT source,interval_usec,ranges,ephemeral_low,ephemeral_high,protocols,bound_only,"
		"accepted,foreign_processes,netns_all,udp_connect,failures FROM coverage ORDER BY id DESC LIMIT 1",
		&statement);

	if (r <= 0)
		return r;
	state->covered = true;
	state->coverage = (struct coverage){
		.rung = (uint8_t)sqlite3_column_int(statement, 0),
		.interval_usec = (usec_t)sqlite3_column_int64(statement, 1),
		.ranges = query_parse_ranges((const char *)sqlite3_column_text(statement, 2)),
		.ephemeral = {(uint16_t)sqlite3_column_int(statement, 3),
			(uint16_t)sqlite3_column_int(statement, 4)},
		.protocols = (uint32_t)sqlite3_column_int(statement, 5),
		.bound_only = sqlite3_column_int(statement, 6),
		.accepted = sqlite3_column_int(statement, 7),
		.foreign_processes = sqlite3_column_int(statement, 8),
		.netns_all = sqlite3_column_int(statement, 9),
		.udp_connect = sqlite3_column_int(statement, 10),
		.failures = sqlite3_column_int(statement, 11),
	};
	if (state->coverage.rung >= SOURCE_COUNT)
		return -EUCLEAN;
	return 0;
}

int query_state(struct query *q, struct query_state *ret)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	struct query_state state = {.oldest = USEC_UNSET};
	int r = query_first(q,
		"SELECT (SELECT last_seen_usec FROM session ORDER BY id DESC LIMIT 1),"
		"max((SELECT min(from_usec) FROM coverage),"
		"ifnull((SELECT value FROM counter WHERE name='expired_until_usec'),0)),"
		"(SELECT count(*) FROM claim_open),"
		"(SELECT count(*) FROM claim_open c LEFT JOIN process p ON p.id=c.process"
		" WHERE p.pid IS NULL AND c.meta" META_ATTRIBUTION "<>" SQL_KERNEL ")",
		&statement);

	if (r < 0)
		return r;
	state.session = query_column(statement, 0) != ROW_NULL;
	state.last_seen = (usec_t)at_least_0(statement, 0);
	if (query_column(statement, 1) != ROW_NULL)
		state.oldest = (usec_t)at_least_0(statement, 1);
	state.open_claims = (uint64_t)at_least_0(statement, 2);
	state.unattributed = (uint64_t)at_least_0(statement, 3);
	r = latest_coverage(q, &state);
	if (r < 0)
		return r;
	*ret = state;
	return 0;
}

int query_used(struct query *q, uint64_t netns, struct port_range range,
	uint64_t ret[static PROTOCOL_COUNT])
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_prepare(q,
		"SELECT meta" META_PROTOCOL ",count(DISTINCT port) FROM claim_open"
		" WHERE port BETWEEN :low AND :high AND (:netns=0 OR meta" META_LOCAL
		" IN (SELECT l.id FROM netns n JOIN local l ON l.netns=n.id WHERE n.inode=:netns)) GROUP BY 1",
		&statement);

	if (r < 0)
		return r;
	memset(ret, 0, PROTOCOL_COUNT * sizeof(ret[0]));
	query_bind(statement, ":low", range.low);
	query_bind(statement, ":high", range.high);
	query_bind(statement, ":netns", (int64_t)netns);
	while ((r = query_step(statement)) == 1)
		ret[sqlite3_column_int(statement, 0) & META_PROTOCOL_MASK] =
			(uint64_t)sqlite3_column_int64(statement, 1);
	return r;
}

int query_gaps(struct query *q, struct window window, uint64_t *ret_count, usec_t *ret_total,
	char **ret_reason)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	_cleanup_(free_p) char *reason = NULL;
	const char *text;
	int r = query_prepare(q,
		"SELECT count(*),sum(min(until_usec,:until)-max(from_usec,:from)),"
		"(SELECT reason FROM gap WHERE until_usec>=:from AND from_usec<:until"
		" ORDER BY until_usec DESC,id DESC LIMIT 1)"
		" FROM gap WHERE until_usec>=:from AND from_usec<:until",
		&statement);

	if (r < 0)
		return r;
	query_bind(statement, ":from", (int64_t)window.from);
	query_bind(statement, ":until", (int64_t)window.until);
	r = query_step(statement);
	if (r < 0)
		return r;
	text = (const char *)sqlite3_column_text(statement, 2);
	reason = strdup(text ? text : "");
	if (!reason)
		return -ENOMEM;
	*ret_count = (uint64_t)at_least_0(statement, 0);
	*ret_total = (usec_t)at_least_0(statement, 1);
	*ret_reason = TAKE_PTR(reason);
	return 0;
}
_Static_assert(PROTOCOL_COUNT == META_PROTOCOL_MASK + 1, "every protocol that meta can say");
_Static_assert(ATTRIBUTION_KERNEL == 6, "SQL_KERNEL");
