/* SPDX-License-Identifier: MIT */

/*
 * Lists of ports (coalesced.ports: two bytes each, big-endian, ascending, a port as often as it was claimed) in SQL:
 *
 *   port_set(ports)                 JSON text of the list, each port once
 *   port_list_low(ports, low, high) the lowest that is in [low, high], or NULL
 *   port_list(ports, low, high)     a table: a row for each that is in [low, high]: `value`, and `key`, its place in the list, from 0 on
 *
 * A table, since sums of a flood walk millions of them: as JSON text they took ten times as long.
 */

#include "daemon/control/query_internal.h"

enum { LIST_KEY, LIST_VALUE, LIST_PORTS, LIST_LOW, LIST_HIGH, LIST_COLUMNS };
#define DECLARATION                                                                                \
	"CREATE TABLE port_list(key INT, value INT, ports HIDDEN, low HIDDEN, high HIDDEN)"

struct list_cursor {
	sqlite3_vtab_cursor base;
	uint8_t *ports; /* owned; those that are given */
	int first;      /* the place of the first of them in the list */
	int at, count;
};

static sqlite3_int64 port_at(const uint8_t *ports, int n)
{
	return (sqlite3_int64)ports[2 * n] << 8 | ports[2 * n + 1];
}

/* The place of the first of `count` that is not below `port`. */
static int place_of(const uint8_t *ports, int count, sqlite3_int64 port)
{
	int low = 0, high = count;

	while (low < high) {
		int middle = low + (high - low) / 2;

		if (port_at(ports, middle) < port)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void port_set(sqlite3_context *context, _unused_ int count, sqlite3_value **values)
{
	sqlite3_str *text;
	const uint8_t *ports;
	int n;

	if (sqlite3_value_type(values[0]) != SQLITE_BLOB)
		return;
	n = sqlite3_value_bytes(values[0]) / 2;
	ports = sqlite3_value_blob(values[0]);
	text = sqlite3_str_new(NULL);
	for (int i = 0; i < n; i++)
		if (i == 0 || port_at(ports, i) != port_at(ports, i - 1))
			sqlite3_str_appendf(text, "%c%lld", i > 0 ? ',' : '[', port_at(ports, i));
	sqlite3_str_appendf(text, n > 0 ? "]" : "[]");
	if (sqlite3_str_errcode(text) != SQLITE_OK)
		sqlite3_result_error_nomem(context);
	else
		sqlite3_result_text(context, sqlite3_str_value(text), -1, SQLITE_TRANSIENT);
	sqlite3_free(sqlite3_str_finish(text));
}

static void port_list_low(sqlite3_context *context, _unused_ int count, sqlite3_value **values)
{
	int n = sqlite3_value_bytes(values[0]) / 2, at;
	const uint8_t *ports = sqlite3_value_blob(values[0]);

	at = place_of(ports, n, sqlite3_value_int64(values[1]));
	if (at < n && port_at(ports, at) <= sqlite3_value_int64(values[2]))
		sqlite3_result_int64(context, port_at(ports, at));
}

/* ---- the table ---- */

static int list_connect(sqlite3 *db, _unused_ void *context, _unused_ int count,
	_unused_ const char *const *arguments, sqlite3_vtab **ret, _unused_ char **error)
{
	int code = sqlite3_declare_vtab(db, DECLARATION);

	if (code != SQLITE_OK)
		return code;
	*ret = sqlite3_malloc(sizeof(**ret));
	if (!*ret)
		return SQLITE_NOMEM;
	**ret = (sqlite3_vtab){0};
	return SQLITE_OK;
}

static int list_disconnect(sqlite3_vtab *table)
{
	sqlite3_free(table);
	return SQLITE_OK;
}

/* It is of its three arguments, and of nothing else. */
static int list_plan(_unused_ sqlite3_vtab *table, sqlite3_index_info *info)
{
	bool given[LIST_COLUMNS] = {false};

	for (int i = 0; i < info->nConstraint; i++) {
		int column = info->aConstraint[i].iColumn;

		if (column < LIST_PORTS || info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
			continue;
		if (!info->aConstraint[i].usable || given[column])
			return SQLITE_CONSTRAINT;
		given[column] = true;
		info->aConstraintUsage[i].argvIndex = column - LIST_PORTS + 1;
		info->aConstraintUsage[i].omit = 1;
	}
	if (!given[LIST_PORTS] || !given[LIST_LOW] || !given[LIST_HIGH])
		return SQLITE_CONSTRAINT;
	info->estimatedCost = 1000;
	info->estimatedRows = 1000;
	return SQLITE_OK;
}

static int list_open(_unused_ sqlite3_vtab *table, sqlite3_vtab_cursor **ret)
{
	struct list_cursor *c = sqlite3_malloc(sizeof(*c));

	if (!c)
		return SQLITE_NOMEM;
	*c = (struct list_cursor){0};
	*ret = &c->base;
	return SQLITE_OK;
}

static struct list_cursor *cursor_of(sqlite3_vtab_cursor *base)
{
	return (struct list_cursor *)base;
}

static int list_close(sqlite3_vtab_cursor *base)
{
	sqlite3_free(cursor_of(base)->ports);
	sqlite3_free(base);
	return SQLITE_OK;
}

static int list_filter(sqlite3_vtab_cursor *base, _unused_ int plan, _unused_ const char *text,
	_unused_ int count, sqlite3_value **values)
{
	struct list_cursor *c = cursor_of(base);
	int n = sqlite3_value_bytes(values[0]) / 2;
	const uint8_t *ports = sqlite3_value_blob(values[0]);

	sqlite3_free(c->ports);
	c->ports = NULL;
	c->at = 0;
	c->first = place_of(ports, n, sqlite3_value_int64(values[1]));
	c->count = place_of(ports, n, sqlite3_value_int64(values[2]) + 1) - c->first;
	if (c->count <= 0)
		return SQLITE_OK;
	/* the value is another's, and only until we return */
	c->ports = sqlite3_malloc(2 * c->count);
	if (!c->ports) {
		c->count = 0;
		return SQLITE_NOMEM;
	}
	memcpy(c->ports, ports + 2 * (size_t)c->first, 2 * (size_t)c->count);
	return SQLITE_OK;
}

static int list_next(sqlite3_vtab_cursor *base)
{
	cursor_of(base)->at++;
	return SQLITE_OK;
}

static int list_eof(sqlite3_vtab_cursor *base)
{
	return cursor_of(base)->at >= cursor_of(base)->count;
}

static int list_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
	const struct list_cursor *c = cursor_of(base);

	if (column == LIST_KEY)
		sqlite3_result_int(context, c->first + c->at);
	else if (column == LIST_VALUE)
		sqlite3_result_int64(context, port_at(c->ports, c->at));
	return SQLITE_OK;
}

static int list_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *ret)
{
	*ret = cursor_of(base)->first + cursor_of(base)->at;
	return SQLITE_OK;
}

/* Without xCreate there is one such table, and it is a function. */
static const sqlite3_module list_module = {
	.xConnect = list_connect,
	.xBestIndex = list_plan,
	.xDisconnect = list_disconnect,
	.xOpen = list_open,
	.xClose = list_close,
	.xFilter = list_filter,
	.xNext = list_next,
	.xEof = list_eof,
	.xColumn = list_column,
	.xRowid = list_rowid,
};

int query_add_port_lists(sqlite3 *db)
{
	const int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
	int code = sqlite3_create_function_v2(
		db, "port_set", 1, flags, NULL, port_set, NULL, NULL, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_create_function_v2(
			db, "port_list_low", 3, flags, NULL, port_list_low, NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_create_module_v2(db, "port_list", &list_module, NULL, NULL);
	return query_error(code);
}
