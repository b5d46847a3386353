/* SPDX-License-Identifier: MIT */

/*
 * A flood must not evict evidence. Retention by bytes drops the oldest segment, whoever its claims are of: so a user who makes
 * enough claims would push out what is known of all others, and of what he did before. Therefore no user's rows may be more
 * than UserShare= of all while others have any: where the database is too large, and one user has more, it is his
 * oldest rows that go, from one segment a step. That is said: a gap "user-share" over the segment's time, with their number.
 *
 * How many rows of a segment each user has is counted when it is sealed, once for each of its processes: `segment_user`. A user
 * is the process's uid, or the socket owner's where no process is known; what is not even that known is one user, too, as
 * otherwise a flood that is too short-lived to be attributed would be exempt.
 */

#include "daemon/ledger/store_private.h"

#define REASON  "user-share"
#define NOBODY  (-1)         /* segment_user.uid: not known */
#define GAP_MAX USEC_PER_DAY /* of one gap; a longer one would say too little about when */

struct user_rows {
	int64_t uid;
	int64_t n;
};

static int compare_numbers(const void *left, const void *right)
{
	const int64_t *a = left, *b = right;

	return *a < *b ? -1 : *a > *b;
}

static int compare_users(const void *left, const void *right)
{
	const struct user_rows *a = left, *b = right;

	return a->uid < b->uid ? -1 : a->uid > b->uid;
}

static int find_uid(struct store *s, int64_t process, int64_t *ret)
{
	struct binder b = sql_bind(s, STATEMENT_PROCESS_UID);

	bind_int(&b, process);
	return sql_value(s, STATEMENT_PROCESS_UID, NOBODY, ret);
}

static int add_user(struct store *s, int64_t segment, const struct user_rows *u)
{
	struct binder b = sql_bind(s, STATEMENT_USER_ADD);

	bind_int(&b, u->uid);
	bind_int(&b, segment);
	bind_int(&b, u->n);
	return sql_run(s, STATEMENT_USER_ADD);
}

int share_count(struct store *s, int64_t segment, int64_t processes[], size_t count)
{
	_cleanup_(free_p) struct user_rows *users = calloc(count + 1, sizeof(*users));
	size_t known = 0;
	int r = 0;

	if (!users)
		return -ENOMEM;
	qsort(processes, count, sizeof(*processes), compare_numbers);
	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		end = i + 1;
		while (end < count && processes[end] == processes[i])
			end++;
		users[known].n = (int64_t)(end - i);
		r = find_uid(s, processes[i], &users[known++].uid);
	}
	qsort(users, known, sizeof(*users), compare_users);
	for (size_t i = 0, end; r == 0 && i < known; i = end) {
		for (end = i + 1; end < known && users[end].uid == users[i].uid; end++)
			users[i].n += users[end].n;
		r = add_user(s, segment, &users[i]);
	}
	return r;
}

int share_find(struct store *s, int64_t *ret_uid)
{
	sqlite3_stmt *row = s->statements[STATEMENT_USER_MOST];
	int64_t uid, most, all;
	int r = sql_step(s, STATEMENT_USER_MOST);

	if (r <= 0)
		return r;
	uid = sqlite3_column_int64(row, 0);
	most = sqlite3_column_int64(row, 1);
	all = sqlite3_column_int64(row, 2);
	sql_reset(s, STATEMENT_USER_MOST);
	if (most == all || most * 1000 <= all * (int64_t)s->settings.user_share_permille)
		return 0;
	*ret_uid = uid;
	return 1;
}

/* The time of the rows that went, and how many claims they were. */
struct evicted {
	int64_t segment, n;
	usec_t from, until;
};

static int tell(struct store *s, const struct evicted *e)
{
	int r = rows_extend_gap(s, e->from, e->until, REASON, (uint64_t)e->n, GAP_MAX);

	return r != 0 ? MIN(r, 0) : rows_add_gap(s, e->from, e->until, REASON, (uint64_t)e->n);
}

static int run_pair(struct store *s, enum statement which, int64_t first, int64_t second)
{
	struct binder b = sql_bind(s, which);

	bind_int(&b, first);
	bind_int(&b, second);
	return sql_run(s, which);
}

static int evict(struct store *s, int64_t uid, struct evicted *e)
{
	struct binder b;
	int64_t rows, coalesced = 0;
	int r = run_pair(s, STATEMENT_USER_DROP_HOLDERS, e->segment, uid);

	if (r == 0)
		r = run_pair(s, STATEMENT_USER_DROP_ROWS, e->segment, uid);
	rows = sqlite3_changes64(s->db);
	e->n = rows;
	if (r == 0) {
		b = sql_bind(s, STATEMENT_USER_COALESCED);
		bind_int(&b, e->segment);
		bind_int(&b, uid);
		r = sql_value(s, STATEMENT_USER_COALESCED, 0, &coalesced);
	}
	if (r == 0)
		r = run_pair(s, STATEMENT_USER_DROP_COALESCED, e->segment, uid);
	rows += sqlite3_changes64(s->db);
	e->n += coalesced;
	if (r == 0)
		r = run_pair(s, STATEMENT_USER_DROP, e->segment, uid);
	if (r == 0)
		r = run_pair(s, STATEMENT_SEGMENT_LESS, e->segment, rows);
	if (r < 0)
		return r;
	b = sql_bind(s, STATEMENT_SEGMENT_DROP_EMPTY);
	bind_int(&b, e->segment);
	return sql_run(s, STATEMENT_SEGMENT_DROP_EMPTY);
}

int share_evict(struct store *s, int64_t uid)
{
	sqlite3_stmt *row = s->statements[STATEMENT_USER_OLDEST];
	struct binder b = sql_bind(s, STATEMENT_USER_OLDEST);
	struct evicted e;
	int r;

	bind_int(&b, uid);
	r = sql_step(s, STATEMENT_USER_OLDEST);
	if (r <= 0)
		return r;
	e = (struct evicted){
		.segment = sqlite3_column_int64(row, 0),
		.from = (usec_t)sqlite3_column_int64(row, 1),
		.until = (usec_t)sqlite3_column_int64(row, 2),
	};
	sql_reset(s, STATEMENT_USER_OLDEST);
	s->state.process_due = true;
	r = evict(s, uid, &e);
	return r == 0 && e.n > 0 ? tell(s, &e) : r;
}
