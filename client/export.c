/* SPDX-License-Identifier: MIT */

#include "client/export.h"

#include <sqlite3.h>

#include "client/jsonout.h"
#include "client/shape.h"
#include "common/buf.h"

#define EXPORT_ID 0x504C4558 /* "PLEX" */

struct exported {
	sqlite3 *db;
	sqlite3_stmt *add;
};

/* The claims, what was watched, and where to go on. */
static const char tables[] =
	"CREATE INDEX IF NOT EXISTS claims_port ON claims(port,opened_usec);"
	"CREATE INDEX IF NOT EXISTS claims_opened ON claims(opened_usec);"
	"CREATE INDEX IF NOT EXISTS claims_released ON claims(released_usec);"
	"CREATE INDEX IF NOT EXISTS claims_exe ON claims(exe,opened_usec);"
	"CREATE TABLE IF NOT EXISTS receipt(from_usec INTEGER NOT NULL,until_usec INTEGER NOT NULL,"
	"lost INTEGER,complete INTEGER NOT NULL,coverage TEXT NOT NULL);"
	"CREATE TABLE IF NOT EXISTS cursor(id INTEGER PRIMARY KEY CHECK(id=1),cursor TEXT NOT NULL);";

static int execute(struct exported *e, const char *sql)
{
	return sqlite3_exec(e->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

static const char *type_of(const struct shape_member *m)
{
	return m->type == SHAPE_INT || m->type == SHAPE_TIME || m->type == SHAPE_PORT ? "INTEGER"
										      : "TEXT";
}

/* "CREATE TABLE ..." and "INSERT ...", by the shape: the names are ours. */
static int make_table(struct exported *e)
{
	_cleanup_(buf_done) struct buf make = {0}, add = {0};
	int r = buf_append_string(&make, "CREATE TABLE IF NOT EXISTS claims(");

	if (r == 0)
		r = buf_append_string(&add, "INSERT INTO claims VALUES(");
	for (size_t i = 0; i < shape_claim.count && r == 0; i++) {
		const struct shape_member *m = &shape_claim.members[i];

		r = buf_append_format(&make, "%s\"%s\" %s", i > 0 ? "," : "", m->name, type_of(m));
		if (r == 0)
			r = buf_append_string(&add, i > 0 ? ",?" : "?");
	}
	if (r == 0)
		r = buf_append_string(&make, ")");
	if (r == 0)
		r = buf_append_string(&add, ")");
	if (r < 0 || buf_put_u8(&make, 0) < 0 || buf_put_u8(&add, 0) < 0)
		return -ENOMEM;
	if (execute(e, (const char *)buf_bytes(&make)) < 0 || execute(e, tables) < 0)
		return -EIO;
	return sqlite3_prepare_v2(e->db, (const char *)buf_bytes(&add), -1, &e->add, NULL) ==
			       SQLITE_OK
		       ? 0
		       : -EIO;
}

/* A number that a pragma or a query gives; -1: none. */
static int64_t number_of(struct exported *e, const char *sql)
{
	sqlite3_stmt *statement = NULL;
	int64_t number = -1;

	if (sqlite3_prepare_v2(e->db, sql, -1, &statement, NULL) == SQLITE_OK &&
		sqlite3_step(statement) == SQLITE_ROW)
		number = sqlite3_column_int64(statement, 0);
	(void)sqlite3_finalize(statement);
	return number;
}

/* Ours, or new: somebody else's tables are not to be touched. */
static int check_file(struct exported *e)
{
	int64_t id = number_of(e, "PRAGMA application_id");
	char pragma[64];

	if (id == EXPORT_ID)
		return 0;
	if (id < 0)
		return -EIO;
	if (id != 0 || number_of(e, "SELECT count(*) FROM sqlite_schema") != 0)
		return -EEXIST;
	snprintf(pragma, sizeof(pragma), "PRAGMA application_id=%d", EXPORT_ID);
	return execute(e, pragma);
}

int exported_open(const char *path, struct exported **ret)
{
	struct exported *e = calloc(1, sizeof(*e));
	_cleanup_(free_p) char *file = NULL;
	int r;

	if (!e)
		return -ENOMEM;
	*ret = e;
	/* ":memory:" and "file:..." are names of files here */
	if (asprintf(&file, "%s%s", *path == '/' ? "" : "./", path) < 0) {
		file = NULL;
		return -ENOMEM;
	}
	if (sqlite3_open_v2(file, &e->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
		SQLITE_OK)
		return -EIO;
	(void)sqlite3_busy_timeout(e->db, 5000);
	r = check_file(e);
	if (r == 0)
		r = execute(e, "BEGIN IMMEDIATE");
	return r == 0 ? make_table(e) : r;
}

struct exported *exported_free(struct exported *e)
{
	if (!e)
		return NULL;
	(void)sqlite3_finalize(e->add);
	(void)sqlite3_close(e->db);
	free(e);
	return NULL;
}

const char *exported_error(const struct exported *e)
{
	return e && e->db ? sqlite3_errmsg(e->db) : "out of memory";
}

char *exported_cursor(struct exported *e)
{
	sqlite3_stmt *statement = NULL;
	char *cursor = NULL;

	if (sqlite3_prepare_v2(e->db, "SELECT cursor FROM cursor", -1, &statement, NULL) ==
			SQLITE_OK &&
		sqlite3_step(statement) == SQLITE_ROW)
		cursor = strdup((const char *)sqlite3_column_text(statement, 0));
	(void)sqlite3_finalize(statement);
	return cursor ? cursor : strdup("");
}

static int bind_value(sqlite3_stmt *statement, int at, const json_t *value)
{
	_cleanup_(buf_done) struct buf b = {0};

	if (json_is_integer(value))
		return sqlite3_bind_int64(statement, at, json_integer_value(value));
	if (json_is_string(value))
		return sqlite3_bind_text(
			statement, at, json_string_value(value), -1, SQLITE_TRANSIENT);
	if (!value || json_is_null(value))
		return sqlite3_bind_null(statement, at);
	if (jsonout_put(&b, value, -1) < 0)
		return SQLITE_NOMEM;
	return sqlite3_bind_text(
		statement, at, (const char *)buf_bytes(&b), (int)buf_size(&b), SQLITE_TRANSIENT);
}

int exported_add(struct exported *e, const json_t *claim)
{
	(void)sqlite3_reset(e->add);
	for (size_t i = 0; i < shape_claim.count; i++)
		if (bind_value(e->add, (int)i + 1,
			    json_object_get(claim, shape_claim.members[i].name)) != SQLITE_OK)
			return -EIO;
	return sqlite3_step(e->add) == SQLITE_DONE ? 0 : -EIO;
}

int exported_drop_open(struct exported *e)
{
	return execute(e, "DELETE FROM claims WHERE released_usec IS NULL");
}

static int put_cursor(struct exported *e, const char *cursor)
{
	sqlite3_stmt *statement = NULL;
	int r = sqlite3_prepare_v2(
		e->db, "INSERT OR REPLACE INTO cursor VALUES(1,?)", -1, &statement, NULL);

	if (r == SQLITE_OK)
		r = sqlite3_bind_text(statement, 1, cursor, -1, SQLITE_TRANSIENT);
	if (r == SQLITE_OK)
		r = sqlite3_step(statement);
	(void)sqlite3_finalize(statement);
	return r == SQLITE_DONE ? 0 : -EIO;
}

int exported_commit(struct exported *e, const char *cursor)
{
	(void)sqlite3_reset(e->add);
	if (cursor && put_cursor(e, cursor) < 0)
		return -EIO;
	if (execute(e, "COMMIT") < 0)
		return -EIO;
	return execute(e, "BEGIN IMMEDIATE");
}

int exported_receipt(struct exported *e, const json_t *coverage)
{
	sqlite3_stmt *statement = NULL;
	static const char *const members[] = {"from_usec", "until_usec", "lost"};
	int r = sqlite3_prepare_v2(
		e->db, "INSERT INTO receipt VALUES(?,?,?,?,?)", -1, &statement, NULL);

	for (size_t i = 0; i < ELEMENTSOF(members) && r == SQLITE_OK; i++)
		r = bind_value(statement, (int)i + 1, json_object_get(coverage, members[i]));
	if (r == SQLITE_OK)
		r = sqlite3_bind_int(statement, 4, row_true(coverage, "complete"));
	if (r == SQLITE_OK)
		r = bind_value(statement, 5, coverage);
	if (r == SQLITE_OK)
		r = sqlite3_step(statement);
	(void)sqlite3_finalize(statement);
	return r == SQLITE_DONE ? 0 : -EIO;
}
