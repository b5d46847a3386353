/* SPDX-License-Identifier: MIT */

/*
 * A database that something has damaged: it is opened, migrated where an earlier version made it, written, sealed, and asked, or refused
 * with an error. The first byte picks which version made it; then come the damages: three bytes of position, one of length, the bytes.
 */

#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/control/query.h"
#include "daemon/ledger/store.h"
#include "daemon/schema.h"
#include "schema_1_sql.h"
#include "schema_2_sql.h"
#include "schema_3_sql.h"
#include "schema_5_sql.h"
#include "schema_9_sql.h"
#include "schema_sql.h"

#define ROWS 100u /* at a time */

static const struct {
	const char *schema;
	int version;
} versions[] = {{schema_sql, SCHEMA_VERSION}, {schema_1_sql, 1}, {schema_2_sql, 2},
	{schema_3_sql, 3}, {schema_5_sql, 5}, {schema_9_sql, 9}};

/* A few rows that each of the versions has the tables and columns for. */
static const char rows[] =
	"INSERT INTO session(id,boot_id,started_usec,started_boot_usec,last_seen_usec,last_seen_boot_usec,clean_stop,version)"
	" VALUES(1,x'b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0',1,1,1700000000000000,4000000000,0,'0.1');"
	"INSERT INTO counter VALUES('next_claim',9000),('next_hot',91);"
	"INSERT INTO netns(id,session,cookie,inode,name) VALUES(1,1,7,4026531840,NULL);"
	"INSERT INTO local VALUES(1,1,'127.0.0.1');"
	"INSERT INTO process VALUES(1,1,1,10,5,6,1,'init',1700000000000000);"
	"INSERT INTO gap VALUES(1,1600000000000000,1600000000000001,'killed',NULL);";

/* Rollups as the versions before the newest had them, and as it has them; the others do not know the table or a column. */
#define LOOSE(table)                                                                               \
	"INSERT INTO " table "(start_usec,app,netns,apart,claims,connected,listening,bound,"       \
	"accepted,unattributed,first_usec,last_usec,shortest_usec,longest_usec,ports,remotes,"     \
	"port_set,remote_set,end_only,preexisting,not_looked,lives) VALUES"                        \
	"(1699920000000000,1,1,0,9,1,2,3,3,4,1699920000000001,1699920000000009,5,7,2,2,"           \
	"x'50005100',x'01020304050607080102030405060709',1,0,2,"                                   \
	"x'800005000000000000000700000000000000');"
#define PACKED(table)                                                                              \
	"INSERT INTO " table "(start_usec,app,netns,apart,claims,connected,listening,bound,"       \
	"accepted,unattributed,first_usec,last_usec,shortest_usec,longest_usec,ports,remotes,"     \
	"sets) VALUES"                                                                             \
	"(1699920000000000,1,1,0,9,1,2,3,3,4,1699920000000001,1699920000000009,5,7,2,2,"           \
	"x'0100021205800005000000000000000700000000000000"                                         \
	"0405060708"                                                                               \
	"00500080"                                                                                 \
	"01');"
static const char *const rollups[] = {
	LOOSE("rollup_hour") LOOSE("rollup_day"), PACKED("rollup_hour") PACKED("rollup_day")};
static const char days[] = /* until when they are made: then they are read */
	"INSERT INTO counter VALUES('days_rolled_until_usec',1700006400000000)";

static struct {
	char directory[64];
	int fd; /* of it */
	uint8_t *image[ELEMENTSOF(versions)];
	size_t size[ELEMENTSOF(versions)];
} world = {.fd = -1};

static const char *const files[] = {SCHEMA_FILE, SCHEMA_FILE "-wal", SCHEMA_FILE "-shm",
	SCHEMA_FILE "-journal", "lock", "heartbeat"};

static void remove_files(void)
{
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		(void)unlinkat(world.fd, files[i], 0);
}

static void remove_directory(void)
{
	remove_files();
	(void)rmdir(world.directory);
}

static void database_path(char path[static 128])
{
	(void)snprintf(path, 128, "%s/%s", world.directory, SCHEMA_FILE);
}

static void read_image(size_t v)
{
	int fd = openat(world.fd, SCHEMA_FILE, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		abort();
	world.size[v] = (size_t)st.st_size;
	world.image[v] = malloc(world.size[v]);
	if (!world.image[v] || pread(fd, world.image[v], world.size[v], 0) != st.st_size)
		abort();
	(void)close(fd);
}

/* What is there already in the newest schema (its keys may differ) is no failure of this test. */
static void make_image(size_t v)
{
	char path[128], number[64];
	sqlite3 *db;

	database_path(path);
	(void)snprintf(number, sizeof(number),
		"PRAGMA application_id=0x504C4447;PRAGMA user_version=%d", versions[v].version);
	if (sqlite3_open(path, &db) != SQLITE_OK ||
		sqlite3_exec(db, "PRAGMA page_size=4096;PRAGMA auto_vacuum=INCREMENTAL", NULL, NULL,
			NULL) ||
		sqlite3_exec(db, versions[v].schema, NULL, NULL, NULL) ||
		sqlite3_exec(db, number, NULL, NULL, NULL))
		abort();
	(void)sqlite3_exec(db, rows, NULL, NULL, NULL);
	(void)sqlite3_exec(db, days, NULL, NULL, NULL);
	for (size_t i = 0; i < ELEMENTSOF(rollups); i++)
		(void)sqlite3_exec(db, rollups[i], NULL, NULL, NULL);
	(void)sqlite3_close(db);
	read_image(v);
	remove_files();
}

static void make_world(void)
{
	bool memory = access("/dev/shm", W_OK) == 0; /* no disk for what lives a millisecond */

	(void)snprintf(world.directory, sizeof(world.directory), "%s/portledger-fuzz.XXXXXX",
		memory ? "/dev/shm" : "/tmp");
	if (!mkdtemp(world.directory))
		abort();
	(void)atexit(remove_directory);
	world.fd = open(world.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (world.fd < 0)
		abort();
	for (size_t v = 0; v < ELEMENTSOF(versions); v++)
		make_image(v);
}

static void write_damaged(size_t v, const uint8_t *data, size_t size)
{
	_cleanup_(free_p) uint8_t *image = malloc(world.size[v]);
	int fd = openat(world.fd, SCHEMA_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	if (!image || fd < 0)
		abort();
	memcpy(image, world.image[v], world.size[v]);
	while (size > 4) {
		size_t at =
			((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) % world.size[v];
		size_t length = MIN((size_t)data[3], size - 4);

		length = MIN(length, world.size[v] - at);
		memcpy(image + at, data + 4, length);
		data += 4 + length;
		size -= 4 + length;
	}
	if (pwrite(fd, image, world.size[v], 0) != (ssize_t)world.size[v])
		abort();
	(void)close(fd);
}

static int take_open(void *context _unused_, struct claim *claim)
{
	claim_done(claim);
	return 0;
}

/* Errors are answers; only a crash is none. */
static void use(struct store *s)
{
	struct claim c = {
		.cookie = 77,
		.netns = 7,
		.local = {.address = {FAMILY_IPV4, {127, 0, 0, 1}}, .port = 60530},
		.opened_boot = 5000000000,
		.opened_after_boot = USEC_UNSET,
		.opened_wall = 1700000001000000,
		.closed_boot = 5000001000,
		.closed_after_boot = USEC_UNSET,
		.released_boot = 5000001000,
	};
	const struct settings settings = {.max_age_usec = 30 * USEC_PER_DAY,
		.max_bytes = 1 << 20,
		.user_share_permille = 500,
		.coalesce_above = 1};
	const struct now now = {.boot = 6000000000, .wall = 1700000002000000};
	const struct netns netns = {.cookie = 7, .inode = 4026531840};
	int r;

	store_settings(s, &settings);
	r = store_adopt(s, take_open, NULL);
	store_number(s, &c);
	if (r == 0)
		r = store_put_netns(s, &netns);
	if (r == 0)
		r = store_put_released(s, &c);
	if (r == 0)
		r = store_commit(s, now, true);
	for (unsigned i = 0; i < 8 && r == 0; i++)
		r = store_maintain(
			s, (struct now){.boot = now.boot, .wall = now.wall + 40 * USEC_PER_DAY});
	(void)!store_stop(s, now);
}

/* Once by the hours and once by the days. */
static int audit(struct query *q, struct buf *out)
{
	struct question question = {.filter = FILTER_ANY,
		.window = {UINT64_C(1699833600000000), UINT64_C(1700006400000000)},
		.rows = ROWS_ALL | ROLLUPS};
	int r = query_audit(q, &question, AUDIT_BY_PROGRAM, out, NULL);

	question.window.from -= 40 * USEC_PER_DAY;
	return r == 0 ? query_audit(q, &question, AUDIT_BY_PROGRAM, out, NULL) : r;
}

static void ask(void)
{
	const struct question everything = {
		.filter = FILTER_ANY, .window = {0, WALL_FOREVER}, .rows = ROWS_ALL};
	struct place place = PLACE_START;
	struct rows found = {0};
	struct buf out = {0};
	struct query *q;
	char path[128];
	int r;

	database_path(path);
	if (query_new(path, &q) < 0)
		abort();
	r = query_begin(q, clock_now().boot + USEC_PER_SEC);
	if (r == 0) {
		r = query_rows(q, &everything, ROWS, &place, &found);
		for (size_t i = 0; i < found.count && r == 0; i++)
			r = query_row_json(q, &found.row[i], &out);
		(void)audit(q, &out);
		query_end(q);
	}
	rows_done(&found);
	buf_done(&out);
	query_free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct now now = {.boot = 5000000000, .wall = 1700000001000000};
	uint8_t boot_id[BOOT_ID_BYTES];
	struct store_session before;
	struct store *s = NULL;
	int32_t holder;
	int r;

	if (size == 0)
		return 0;
	if (world.fd < 0)
		make_world();
	memset(boot_id, 0xb0, sizeof(boot_id));
	write_damaged(data[0] % ELEMENTSOF(versions), data + 1, size - 1);
	ask(); /* as an earlier version left it */
	r = store_open(world.fd, boot_id, now, "fuzz", &s, &before, &holder);
	assert(r == 0 || size > 1); /* nothing was damaged */
	if (r == 0)
		use(s);
	store_free(s);
	ask();
	remove_files();
	return 0;
}
