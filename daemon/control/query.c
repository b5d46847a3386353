/* SPDX-License-Identifier: MIT */

/*
 * The connection. Control meets the bytes of clients, so it gets the database by a connection that cannot write,
 * even if SQLite or this process were tricked: opened read-only, query_only, defensive, schema not trusted, no
 * memory map (an I/O error would be a SIGBUS), temporary tables in memory (there is nowhere to write). The WAL's index
 * is mapped read-only too (readonly_shm): that is all that Landlock leaves, and so it is the same without.
 * The file is opened late and looked at before each question: the ledger may make or replace it at any time.
 */

#include "daemon/control/query_internal.h"

#include <arpa/inet.h>
#include <sys/stat.h>

#include "daemon/schema.h"

#define BUSY_MSEC     2000
#define PROGRESS_STEP 4000 /* SQLite instructions between two looks at the clock: well under 1 ms */

/* Statements that were used before, the last one first: to parse one is more than half of what a question for 20 rows costs. A
 * statement knows its connection and nothing else of ours, so that they are kept here and not in a query. */
static sqlite3_stmt *kept[LIMIT_KEPT_STATEMENTS];
static size_t kept_count;

int query_error(int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_INTERRUPT:
		return -ETIMEDOUT;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CANTOPEN:
		return -ENOENT;
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_READONLY:
		return -EACCES;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	default: /* an open-ended set that is not ours */
		return -EIO;
	}
}

/* SQL address_text(blob): the text of a 4 or 16 byte address, else null. */
static void address_text(sqlite3_context *context, int count, sqlite3_value **values)
{
	char text[INET6_ADDRSTRLEN];
	int size;
	const void *bytes;

	(void)count;
	if (sqlite3_value_type(values[0]) != SQLITE_BLOB)
		return;
	size = sqlite3_value_bytes(values[0]);
	bytes = sqlite3_value_blob(values[0]);
	if ((size == 4 || size == 16) &&
		inet_ntop(size == 4 ? AF_INET : AF_INET6, bytes, text, sizeof(text)))
		sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
}

static int past_deadline(void *context)
{
	struct query *q = context;

	return clock_now().boot > q->deadline_boot;
}

static int leave_owner(int fd _unused_, uid_t uid _unused_, gid_t gid _unused_)
{
	return 0;
}

/* As root, SQLite gives the -shm file that it opens the owner of the database. It was the ledger that made it; and to change an
 * owner is not left to control (syscalls.c). */
static void change_no_owner(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	if (vfs && vfs->iVersion >= 3)
		(void)vfs->xSetSystemCall(vfs, "fchown", (sqlite3_syscall_ptr)leave_owner);
}

int query_new(const char *path, struct query **ret)
{
	_cleanup_(query_free_p) struct query *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->path = strdup(path);
	if (!q->path)
		return -ENOMEM;
	change_no_owner();
	*ret = TAKE_PTR(q);
	return 0;
}

static sqlite3_stmt *take_kept_at(size_t i)
{
	sqlite3_stmt *statement = kept[i];

	kept_count--;
	memmove(&kept[i], &kept[i + 1], (kept_count - i) * sizeof(kept[0]));
	return statement;
}

/* One of this text that nobody uses; NULL: there is none. */
static sqlite3_stmt *take_kept(sqlite3 *db, const char *sql)
{
	for (size_t i = 0; i < kept_count; i++)
		if (sqlite3_db_handle(kept[i]) == db && streq(sqlite3_sql(kept[i]), sql))
			return take_kept_at(i);
	return NULL;
}

static void drop_kept(sqlite3 *db)
{
	for (size_t i = kept_count; i > 0; i--)
		if (sqlite3_db_handle(kept[i - 1]) == db)
			(void)sqlite3_finalize(take_kept_at(i - 1));
}

void query_release(sqlite3_stmt *statement)
{
	if (!statement)
		return;
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
	if (kept_count == ELEMENTSOF(kept))
		(void)sqlite3_finalize(take_kept_at(kept_count - 1));
	memmove(&kept[1], &kept[0], kept_count * sizeof(kept[0]));
	kept[0] = statement;
	kept_count++;
}

static void close_database(struct query *q)
{
	(void)sqlite3_finalize(q->json);
	q->json = NULL;
	drop_kept(q->db);
	(void)sqlite3_close(q->db);
	q->db = NULL;
}

struct query *query_free(struct query *q)
{
	if (!q)
		return NULL;
	close_database(q);
	free(q->path);
	free(q);
	return NULL;
}

int query_prepare(struct query *q, const char *sql, sqlite3_stmt **ret)
{
	if (!sql)
		return -ENOMEM;
	*ret = take_kept(q->db, sql);
	return *ret ? 0 : query_error(sqlite3_prepare_v2(q->db, sql, -1, ret, NULL));
}

/* Of a value that did not get into its statement, which would then ask another question. A name that it does not have is none. */
static int bind_error;

static void note_bind(int code)
{
	if (code != SQLITE_OK && code != SQLITE_RANGE)
		bind_error = code;
}

int query_step(sqlite3_stmt *statement)
{
	int code = bind_error != SQLITE_OK ? bind_error : sqlite3_step(statement);

	bind_error = SQLITE_OK;
	return code == SQLITE_ROW ? 1 : query_error(code);
}

int query_first(struct query *q, const char *sql, sqlite3_stmt **ret)
{
	int r = query_prepare(q, sql, ret);

	return r < 0 ? r : query_step(*ret);
}

void query_bind(sqlite3_stmt *statement, const char *name, int64_t value)
{
	note_bind(sqlite3_bind_int64(
		statement, sqlite3_bind_parameter_index(statement, name), value));
}

void query_bind_text(sqlite3_stmt *statement, const char *name, const char *value)
{
	note_bind(sqlite3_bind_text(statement, sqlite3_bind_parameter_index(statement, name), value,
		-1, SQLITE_TRANSIENT));
}

void query_bind_blob(sqlite3_stmt *statement, const char *name, const void *data, size_t size)
{
	note_bind(sqlite3_bind_blob(statement, sqlite3_bind_parameter_index(statement, name), data,
		(int)size, SQLITE_TRANSIENT));
}

void query_bind_numbers(
	sqlite3_stmt *statement, const char *name, const int64_t numbers[], size_t count)
{
	_cleanup_(buf_done) struct buf text = {0};
	int r = buf_append_string(&text, "[");

	for (size_t i = 0; i < count && r == 0; i++)
		r = buf_append_format(&text, "%s%lld", i ? "," : "", (long long)numbers[i]);
	if (r == 0)
		r = buf_append(&text, "]", sizeof("]"));
	if (r < 0)
		note_bind(SQLITE_NOMEM);
	else
		query_bind_text(statement, name, (const char *)buf_bytes(&text));
}

int64_t query_column(sqlite3_stmt *statement, int column)
{
	return sqlite3_column_type(statement, column) == SQLITE_NULL
		       ? ROW_NULL
		       : sqlite3_column_int64(statement, column);
}

static int check_schema(struct query *q)
{
	_cleanup_(stmt_p) sqlite3_stmt *statement = NULL;
	int r = query_first(q,
		"SELECT application_id,user_version FROM pragma_application_id,pragma_user_version",
		&statement);

	if (r < 0)
		return r;
	/* a file that the ledger could make, and had no room to write into */
	if (sqlite3_column_int(statement, 0) == 0 && sqlite3_column_int(statement, 1) == 0)
		return -ENOENT;
	return sqlite3_column_int(statement, 0) == SCHEMA_APPLICATION_ID &&
			       sqlite3_column_int(statement, 1) == SCHEMA_VERSION
		       ? 0
		       : -EPROTO;
}

/* file:PATH?..., with what means something in a URI as %HH. NULL: no memory. */
static char *make_uri(const char *path)
{
	_cleanup_(buf_done) struct buf uri = {0};
	/* an absolute path may begin with two slashes, which must not name a host */
	int r = buf_append_string(&uri, *path == '/' ? "file://" : "file:");

	for (; r == 0 && *path != '\0'; path++)
		r = strchr("%?#", *path) ? buf_append_format(&uri, "%%%02x", (unsigned)*path)
					 : buf_append(&uri, path, 1);
	if (r == 0)
		r = buf_append_format(&uri, "?mode=ro&readonly_shm=1");
	return r < 0 ? NULL : strndup((const char *)buf_bytes(&uri), buf_size(&uri));
}

static int connect_to(struct query *q)
{
	const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
	_cleanup_(free_p) char *uri = make_uri(q->path);

	if (!uri)
		return -ENOMEM;
	return query_error(sqlite3_open_v2(uri, &q->db, flags, NULL));
}

static int configure(struct query *q)
{
	int r;

	(void)sqlite3_extended_result_codes(q->db, 1);
	(void)sqlite3_busy_timeout(q->db, BUSY_MSEC);
	(void)sqlite3_db_config(q->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(q->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_progress_handler(q->db, PROGRESS_STEP, past_deadline, q);
	r = query_error(sqlite3_exec(q->db,
		"PRAGMA query_only=1; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;"
		" PRAGMA cache_size=-8192; PRAGMA cell_size_check=1",
		NULL, NULL, NULL));
	if (r == 0)
		r = query_error(sqlite3_create_function_v2(q->db, "address_text", 1,
			SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, NULL, address_text,
			NULL, NULL, NULL));
	if (r == 0)
		r = query_add_port_lists(q->db);
	return r;
}

/* Makes q->db a connection to the file that is at the path now. */
static int ensure_open(struct query *q)
{
	struct stat st;
	int r;

	if (stat(q->path, &st) < 0) {
		r = -errno;
		close_database(q);
		return r == -ENOENT || r == -EACCES || r == -ENOMEM ? r : -EIO;
	}
	if (q->db && q->device == st.st_dev && q->inode == st.st_ino)
		return 0;
	close_database(q);
	if (q->device != st.st_dev || q->inode != st.st_ino)
		q->damaged = false;
	r = connect_to(q);
	if (r == 0)
		r = configure(q);
	if (r < 0) {
		close_database(q);
		return r;
	}
	q->device = st.st_dev;
	q->inode = st.st_ino;
	return 0;
}

int query_begin(struct query *q, usec_t deadline_boot)
{
	int r;

	q->deadline_boot = deadline_boot;
	r = ensure_open(q);
	if (r < 0)
		return r;
	/* The schema is read inside the transaction: BEGIN alone takes no snapshot. */
	r = query_error(sqlite3_exec(q->db, "BEGIN", NULL, NULL, NULL));
	if (r == 0)
		r = check_schema(q);
	if (r < 0)
		close_database(q);
	return r;
}

void query_end(struct query *q)
{
	if (!q->db)
		return;
	q->deadline_boot = USEC_UNSET;
	if (sqlite3_exec(q->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		close_database(q); /* a statement that would not end: nothing may hold the WAL */
}

bool query_note_damage(struct query *q)
{
	const bool news = !q->damaged;

	q->damaged = true;
	return news;
}

bool query_is_damaged(const struct query *q)
{
	return q->damaged;
}
