/* SPDX-License-Identifier: MIT */

/*
 * Up to version 9 a rollup had its sets and the reasons in six columns (common/rollup_sets.h has why they are one): ports as a list of two
 * bytes each, or as their bits; the hashes of remote addresses with all of their eight bytes; lives as they still are. The step to
 * version 10 reads those by a function of SQL, which is there for as long as steps are taken.
 */

#include "daemon/ledger/store_private.h"

#include <endian.h>

#include "common/rollup_sets.h"

enum {
	LOOSE_END_ONLY,
	LOOSE_PREEXISTING,
	LOOSE_NOT_LOOKED,
	LOOSE_LIVES,
	LOOSE_REMOTES,
	LOOSE_PORTS,
	LOOSE_COUNT,
};

struct blob {
	const uint8_t *bytes;
	size_t size;
};

static struct blob blob_of(sqlite3_value *value)
{
	const uint8_t *bytes = sqlite3_value_blob(value);

	return (struct blob){bytes, (size_t)sqlite3_value_bytes(value)};
}

static int read_ports(struct blob from, struct port_set *ret)
{
	int before = -1;

	if (from.size == PORT_SET_BYTES) {
		memcpy(ret->bits, from.bytes, PORT_SET_BYTES);
		return 0;
	}
	if (from.size > PORT_SET_BYTES || from.size % 2 != 0)
		return -EBADMSG;
	for (size_t i = 0; i < from.size; i += 2) {
		uint16_t port = (uint16_t)(from.bytes[i] | from.bytes[i + 1] << 8);

		if (port <= before)
			return -EBADMSG;
		before = port;
		port_set_add(ret, port);
	}
	return 0;
}

static int read_remotes(struct blob from, struct sketch *ret)
{
	uint64_t before = 0, hash;

	if (from.size > SKETCH_MAX * sizeof(hash) || from.size % sizeof(hash) != 0)
		return -EBADMSG;
	for (size_t i = 0; i < from.size; i += sizeof(hash)) {
		memcpy(&hash, from.bytes + i, sizeof(hash));
		hash = le64toh(hash);
		if (i > 0 && hash <= before)
			return -EBADMSG;
		before = hash;
		sketch_add(ret, hash);
	}
	return 0;
}

static int read_loose(sqlite3_value **values, struct rollup_reasons *reasons, struct lives *lives,
	struct sketch *remotes, struct port_set *ports)
{
	struct blob life = blob_of(values[LOOSE_LIVES]);
	int r = read_ports(blob_of(values[LOOSE_PORTS]), ports);

	if (r == 0)
		r = read_remotes(blob_of(values[LOOSE_REMOTES]), remotes);
	*reasons = (struct rollup_reasons){
		.end_only = (uint64_t)sqlite3_value_int64(values[LOOSE_END_ONLY]),
		.preexisting = (uint64_t)sqlite3_value_int64(values[LOOSE_PREEXISTING]),
		.not_looked = (uint64_t)sqlite3_value_int64(values[LOOSE_NOT_LOOKED]),
	};
	return r == 0 ? lives_read(life.bytes, life.size, lives) : r;
}

static void pack_sets(sqlite3_context *context, int count _unused_, sqlite3_value **values)
{
	uint8_t sets[ROLLUP_SETS_BYTES];
	struct rollup_reasons reasons;
	struct sketch remotes = {.count = 0};
	struct port_set ports = {{0}};
	struct lives lives;

	if (read_loose(values, &reasons, &lives, &remotes, &ports) < 0) {
		sqlite3_result_error_code(context, SQLITE_CORRUPT);
		return;
	}
	sqlite3_result_blob(context, sets,
		(int)rollup_sets_write(&reasons, &lives, &remotes, &ports, sets), SQLITE_TRANSIENT);
}

int schema_packing(struct store *s, bool on)
{
	return sql_error(s, sqlite3_create_function(s->db, "pack_sets", LOOSE_COUNT,
				    SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY, NULL,
				    on ? pack_sets : NULL, NULL, NULL));
}
