/* SPDX-License-Identifier: MIT */

/*
 * Makes the schema, migrates it, and recognises what is not ours.
 *
 * Versions. user_version goes up by one with every change of a table, an index or a view, however small, and a step
 * is added below; a step is never edited once it was released. Each step is one transaction that also sets
 * user_version, so that a killed migration goes on where it stopped. The views are dropped before each step (they
 * would stand in the way of ALTER TABLE) and made by the last. A program refuses a version that it does not know:
 * it could not know what it breaks.
 *
 * Recognising must not touch. SQLite alters files merely by opening them: it makes or rebuilds the -shm, and on
 * closing it checkpoints. So the 100 bytes of header that decide are read as plain bytes. They are on page 1, and the
 * newest page 1 may be in the WAL: a newer program that was killed right after its migration leaves its user_version
 * there and nowhere else. Therefore the WAL is read as SQLite's recovery would (salts, running checksum, commit
 * frames; https://www.sqlite.org/fileformat2.html section 4), and the last committed page 1 wins.
 *
 * The views are pure SQL, for any sqlite3 shell since 3.38 without a function of ours. `port=` reaches every arm, and
 * claims_hour and claims_day touch only segments whose released_to is in the window (the CROSS JOIN in ROWS_OF_SEG
 * keeps `segment` the outer loop): tests hold both against EXPLAIN QUERY PLAN.
 */

#include "daemon/ledger/store_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon/schema.h"
#include "schema_sql.h"

#define HEADER_BYTES     100
#define WAL_HEADER_BYTES 32
#define FRAME_BYTES      24

/* Of version 5. */
#define ROLLUP_COLUMNS                                                                                                          \
	"id INTEGER PRIMARY KEY,"                                                                                               \
	"start_usec INT NOT NULL, app INT NOT NULL, netns INT NOT NULL, long INT NOT NULL, claims INT NOT NULL,"                \
	"connected INT NOT NULL, listening INT NOT NULL, bound INT NOT NULL, accepted INT NOT NULL, unattributed INT NOT NULL," \
	"first_usec INT NOT NULL, last_usec INT NOT NULL, shortest_usec INT NOT NULL, longest_usec INT NOT NULL,"               \
	"ports INT NOT NULL, remotes INT NOT NULL, port_set BLOB NOT NULL, remote_set BLOB NOT NULL,"                           \
	"UNIQUE(start_usec, app, netns, long)"

/* Of version 7. */
#define MORE_OF_ROLLUP(table)                                                                      \
	"ALTER TABLE " table " RENAME COLUMN long TO apart;"                                       \
	"ALTER TABLE " table " ADD COLUMN end_only INT NOT NULL DEFAULT 0;"                        \
	"ALTER TABLE " table " ADD COLUMN preexisting INT NOT NULL DEFAULT 0;"                     \
	"ALTER TABLE " table " ADD COLUMN not_looked INT NOT NULL DEFAULT 0;"                      \
	"ALTER TABLE " table " ADD COLUMN lives BLOB NOT NULL DEFAULT x'';"

/* Of version 10. What was there keeps its ids: retention goes by them. */
#define PACK_ROLLUP(table)                                                                              \
	"ALTER TABLE " table " RENAME TO loose;"                                                        \
	"CREATE TABLE " table                                                                           \
	"(id INTEGER PRIMARY KEY, start_usec INT NOT NULL, app INT NOT NULL,"                           \
	"netns INT NOT NULL, apart INT NOT NULL, claims INT NOT NULL, connected INT NOT NULL,"          \
	"listening INT NOT NULL, bound INT NOT NULL, accepted INT NOT NULL, unattributed INT NOT NULL," \
	"first_usec INT NOT NULL, last_usec INT NOT NULL, sets BLOB NOT NULL,"                          \
	"shortest_usec INT NOT NULL, longest_usec INT NOT NULL, ports INT NOT NULL,"                    \
	"remotes INT NOT NULL, UNIQUE(start_usec, app, netns, apart)) STRICT;"                          \
	"INSERT INTO " table                                                                            \
	" SELECT id,start_usec,app,netns,apart,claims,connected,listening,bound,"                       \
	"accepted,unattributed,first_usec,last_usec,"                                                   \
	"pack_sets(end_only,preexisting,not_looked,lives,remote_set,port_set),"                         \
	"shortest_usec,longest_usec,ports,remotes FROM loose ORDER BY id;"                              \
	"DROP TABLE loose;"

/* schema.sql is the newest version, and the step from nothing; each version before it has its own. */
const struct schema_step schema_steps[] = {
	{0, SCHEMA_VERSION, schema_sql},
	{1, 2,
		"ALTER TABLE segment ADD COLUMN slack_msec INT NOT NULL DEFAULT 0;"
		"CREATE INDEX segment_released ON segment(released_to);"
		"CREATE INDEX segment_opened ON segment(opened_to);"
		"CREATE TABLE known("
		"program INT NOT NULL, protocol INT NOT NULL, port INT NOT NULL, name TEXT, exe_note INT,"
		"first_seen_usec INT NOT NULL, PRIMARY KEY(program, protocol, port)) STRICT, WITHOUT ROWID"},
	{2, 3,
		"ALTER TABLE session ADD COLUMN ring_generation INT;"
		"ALTER TABLE session ADD COLUMN ring_position INT;"
		"ALTER TABLE session ADD COLUMN ring_lost INT;"
		"ALTER TABLE session ADD COLUMN ring_lost_ends INT;"
		"ALTER TABLE session ADD COLUMN ring_failures_dropped INT;"
		"ALTER TABLE session ADD COLUMN ring_at_boot_usec INT;"
		"ALTER TABLE coverage ADD COLUMN udp_connect INT NOT NULL DEFAULT 0;"
		"ALTER TABLE coverage ADD COLUMN failures INT NOT NULL DEFAULT 0;"
		"ALTER TABLE netns ADD COLUMN ephemeral_low INT NOT NULL DEFAULT 0;"
		"ALTER TABLE netns ADD COLUMN ephemeral_high INT NOT NULL DEFAULT 0;"
		"CREATE TABLE failure("
		"id INTEGER PRIMARY KEY, usec INT NOT NULL, port INT, meta INT NOT NULL, error INT NOT NULL, call INT NOT NULL,"
		"rport INT, raddr BLOB, process INT, holder INT, holder_meta INT, holder_opened_usec INT) STRICT;"
		"CREATE INDEX failure_port ON failure(port, usec);"
		"CREATE INDEX failure_usec ON failure(usec);"
		"CREATE TABLE failure_left_out("
		"id INTEGER PRIMARY KEY, from_usec INT NOT NULL, until_usec INT NOT NULL, n INT NOT NULL) STRICT"},
	{3, 4,
		"CREATE TABLE segment_user("
		"uid INT NOT NULL, seg INT NOT NULL, n INT NOT NULL, PRIMARY KEY(uid, seg)) STRICT, WITHOUT ROWID"},
	{4, 5,
		"CREATE TABLE rollup_hour(" ROLLUP_COLUMNS ") STRICT;"
		"CREATE TABLE rollup_day(" ROLLUP_COLUMNS ") STRICT;"
		"INSERT OR IGNORE INTO counter SELECT 'rolled_from_usec',ifnull(max(released_to),0)+1 FROM segment"},
	{5, 6,
		"ALTER TABLE failure ADD COLUMN remotes INT NOT NULL DEFAULT 0;"
		"ALTER TABLE segment ADD COLUMN remotes INT NOT NULL DEFAULT 0;"
		"ALTER TABLE claim_long ADD COLUMN remotes INT NOT NULL DEFAULT 0;"
		"CREATE INDEX failure_remotes ON failure(remotes, usec) WHERE raddr IS NOT NULL;"
		"CREATE INDEX segment_remotes ON segment(remotes, released_to);"
		"CREATE INDEX claim_long_remotes ON claim_long(remotes, (opened_usec+dur+ifnull(linger,0)*1000))"
		" WHERE raddr IS NOT NULL"},
	{6, 7,
		MORE_OF_ROLLUP("rollup_hour") MORE_OF_ROLLUP(
			"rollup_day") "CREATE TABLE claim_mark("
				      "kind INT NOT NULL, at_usec INT NOT NULL, seg INT NOT NULL, port INT NOT NULL, opened_usec INT NOT NULL,"
				      "claim INT NOT NULL, PRIMARY KEY(kind, at_usec, seg, port, opened_usec, claim)) STRICT, WITHOUT ROWID;"
				      "INSERT OR IGNORE INTO counter SELECT 'marked_from_usec',max(ifnull((SELECT max(released_to) FROM segment),0),"
				      "ifnull((SELECT max(last_seen_usec) FROM session),0))+1"},
	{7, 8,
		"CREATE TABLE coalesced("
		"id INTEGER PRIMARY KEY, seg INT NOT NULL, port INT NOT NULL, opened_usec INT NOT NULL, opened_slack INT,"
		"closed_usec INT NOT NULL, released_usec INT NOT NULL, meta INT NOT NULL, rport INT, process INT, n INT NOT NULL,"
		"spread_usec INT NOT NULL, shortest_usec INT NOT NULL, longest_usec INT NOT NULL, life_usec INT NOT NULL,"
		"linger_usec INT NOT NULL, raddr BLOB, ports BLOB NOT NULL) STRICT;"
		"CREATE INDEX coalesced_seg ON coalesced(seg);"
		"CREATE INDEX coalesced_opened ON coalesced(opened_usec);"
		"CREATE TABLE news(id INTEGER PRIMARY KEY, protocol INT NOT NULL, claim INT NOT NULL) STRICT"},
	{8, 9,
		"ALTER TABLE claim_mark ADD COLUMN dur INT;"
		"ALTER TABLE claim_mark ADD COLUMN linger INT;"
		"ALTER TABLE claim_mark ADD COLUMN meta INT;"
		"ALTER TABLE claim_mark ADD COLUMN app INT;"
		"ALTER TABLE claim_mark ADD COLUMN netns INT;"
		"ALTER TABLE claim_mark ADD COLUMN unattributed INT;"
		"ALTER TABLE claim_mark ADD COLUMN bounded INT;"
		"ALTER TABLE claim_mark ADD COLUMN remote INT;"
		"CREATE INDEX claim_hot_long ON claim_hot(port, opened_usec, dur, linger)"
		" WHERE dur+ifnull(linger,0)*1000+ifnull(opened_slack,0)*1000>=3600000000;"
		"INSERT OR REPLACE INTO counter"
		" SELECT 'segment_usec',ifnull(max(released_to-released_from),0) FROM segment"},
	{9, 10, PACK_ROLLUP("rollup_hour") PACK_ROLLUP("rollup_day")},
};
const size_t schema_step_count = ELEMENTSOF(schema_steps);

/* The text of an address, as inet_ntop(3) gives it, in plain SQL. `h` is an expression of upper-case hex. */
#define HEX_DIGIT(h, at)  "instr('123456789ABCDEF',substr(" h "," #at ",1))"
#define OCTET(h, at, at2) HEX_DIGIT(h, at) "*16+" HEX_DIGIT(h, at2)
#define QUAD(h, a, b, c, d, e, f, g, i)                                                            \
	"(" OCTET(h, a, b) ")||'.'||(" OCTET(h, c, d) ")||'.'||(" OCTET(                           \
		h, e, f) ")||'.'||(" OCTET(h, g, i) ")"
#define GROUP(h, at) "ifnull(nullif(ltrim(lower(substr(" h "," #at ",4)),'0'),''),'0')"
#define GROUPS(h)                                                                                  \
	"':'||" GROUP(h, 1) "||':'||" GROUP(h, 5) "||':'||" GROUP(h, 9) "||':'||" GROUP(           \
		h, 13) "||':'||" GROUP(h, 17) "||':'||" GROUP(h, 21) "||':'||" GROUP(h,            \
		25) "||':'||" GROUP(h, 29) "||':'"
/* `t` is ":g:g:g:g:g:g:g:g:". The first of the longest runs of zero groups, if it is of two at least, becomes "::".
 * `run` is ":0:0:", `skip` its length plus one. */
#define SHORTENED(run, skip)                                                                       \
	" WHEN instr(t," run ") THEN ltrim(substr(t,1,instr(t," run ")-1),':')||'::'"              \
	"||rtrim(substr(t,instr(t," run ")+" #skip "-1),':')"
/* Six zero groups in front and a seventh that is not: inet_ntop() takes it for an embedded IPv4 address. */
#define IPV6(h)                                                                                    \
	"(SELECT CASE"                                                                             \
	" WHEN instr(t,':0:0:0:0:0:0:')=1 AND instr(t,':0:0:0:0:0:0:0:')=0 THEN '::'||" QUAD(      \
		h, 25, 26, 27, 28, 29, 30, 31, 32) SHORTENED("':0:0:0:0:0:0:0:0:'", 18)            \
		SHORTENED("':0:0:0:0:0:0:0:'", 16) SHORTENED("':0:0:0:0:0:0:'", 14)                \
			SHORTENED("':0:0:0:0:0:'", 12) SHORTENED("':0:0:0:0:'", 10) SHORTENED(     \
				"':0:0:0:'", 8) SHORTENED("':0:0:'",                               \
				6) " ELSE trim(t,':') END FROM (SELECT " GROUPS(h) " AS t))"
#define ADDRESS_TEXT(blob)                                                                         \
	"CASE length(" blob ") WHEN 4 THEN " QUAD("hex(" blob ")", 1, 2, 3, 4, 5, 6, 7,            \
		8) " WHEN 16 THEN " IPV6("hex(" blob ")") " END"

#define COLUMN(name, sql) ", " sql " AS " name
#define AS_IT_IS(text)    text

/* The distinct ones of a list of ports, as JSON text. `k` is a row of `coalesced`. */
#define PORT_OF(k, at)                                                                             \
	"(SELECT (" HEX_DIGIT("h", 1) "*16+" HEX_DIGIT("h", 2) ")*256+" OCTET(                     \
		"h", 3, 4) " FROM (SELECT hex(substr(" k ".ports,2*" at "+1,2)) AS h))"
#define PORTS_TEXT(k)                                                                              \
	"CASE WHEN " k ".n THEN (WITH RECURSIVE i(x) AS (SELECT 0 UNION ALL SELECT x+1 FROM i"     \
	" WHERE x+1<" k ".n) SELECT json_group_array(DISTINCT " PORT_OF(k, "x") ") FROM i) END"
static const char columns[] =
	CLAIM_COLUMNS(COLUMN, COLUMN, ADDRESS_TEXT, AS_IT_IS, PORTS_TEXT("k"));

/* A view keeps open claims and those released in the last so many seconds; 0: all. */
static const struct {
	const char *name;
	unsigned seconds;
} views[] = {{"claims", 0}, {"claims_hour", 3600}, {"claims_day", 86400}};

static char *view_sql(const char *name, unsigned seconds)
{
	char since[64] = "", seg[256] = "", rest[160] = "", coalesced[256] = "";

	if (seconds > 0) {
		snprintf(since, sizeof(since),
			"CAST(strftime('%%s','now') AS INT)*1000000-%u000000", seconds);
		snprintf(seg, sizeof(seg),
			" WHERE s.released_to>=%s AND s.base_usec+c.rel+c.dur+ifnull(c.linger,0)*1000>=%s",
			since, since);
		snprintf(rest, sizeof(rest), " WHERE " RELEASED_OF_C ">=%s", since);
		snprintf(coalesced, sizeof(coalesced),
			" WHERE c.opened_usec>=%s-" SQL_COALESCED_USEC " AND c.released_usec>=%s",
			since, since);
	}
	return sqlite3_mprintf("CREATE VIEW %s AS SELECT %s FROM (" ROWS_OF_SEG
			       "%s UNION ALL " ROWS_OF_COALESCED "%s UNION ALL " ROWS_OF_LONG
			       "%s UNION ALL " ROWS_OF_HOT "%s UNION ALL " ROWS_OF_OPEN
			       ") r" CLAIM_JOINS COALESCED_JOIN,
		name, columns + strlen(", "), seg, coalesced, rest, rest);
}

static const char failure_columns[] = FAILURE_COLUMNS(COLUMN, COLUMN, ADDRESS_TEXT);

static int make_failures_view(struct store *s)
{
	char *sql =
		sqlite3_mprintf("CREATE VIEW failures AS SELECT %s FROM failure r" FAILURE_JOINS,
			failure_columns + strlen(", "));
	int r = sql ? sql_exec(s, sql) : -ENOMEM;

	sqlite3_free(sql);
	return r;
}

/* The rollups for people: names for ids, numbers for sets. */
static int make_rollup_views(struct store *s)
{
	static const char *const names[][2] = {
		{"activity_hour", "rollup_hour"}, {"activity_day", "rollup_day"}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(names); i++) {
		char *sql = sqlite3_mprintf(
			"CREATE VIEW %s AS SELECT r.start_usec,a.exe,a.comm,a.uid,a.unit,a.cgroup,"
			"nullif(n.inode,0) AS netns,n.name AS netns_name,r.claims,r.ports,r.remotes,r.connected,"
			"r.listening,r.bound,r.accepted,r.unattributed,r.first_usec,r.last_usec,r.shortest_usec,"
			"r.longest_usec FROM %s r LEFT JOIN app a ON a.id=r.app LEFT JOIN netns n ON n.id=r.netns",
			names[i][0], names[i][1]);

		r = sql ? sql_exec(s, sql) : -ENOMEM;
		sqlite3_free(sql);
	}
	return r;
}

static int make_views(struct store *s)
{
	int e = make_rollup_views(s);

	if (e < 0)
		return e;
	for (size_t i = 0; i < ELEMENTSOF(views); i++) {
		char *sql = view_sql(views[i].name, views[i].seconds);
		int r = sql ? sql_exec(s, sql) : -ENOMEM;

		sqlite3_free(sql);
		if (r < 0)
			return r;
	}
	return make_failures_view(s);
}

static int take_step(struct store *s, const struct schema_step *step, bool last)
{
	char version[96];
	int r = sql_exec(s, "BEGIN EXCLUSIVE; DROP VIEW IF EXISTS claims;"
			    " DROP VIEW IF EXISTS claims_hour; DROP VIEW IF EXISTS claims_day;"
			    " DROP VIEW IF EXISTS failures; DROP VIEW IF EXISTS activity_hour;"
			    " DROP VIEW IF EXISTS activity_day");

	if (r == 0)
		r = sql_exec(s, step->sql);
	if (r == 0 && last)
		r = make_views(s);
	snprintf(version, sizeof(version),
		"PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", SCHEMA_APPLICATION_ID,
		step->version);
	if (r == 0)
		r = sql_exec(s, version);
	if (r < 0)
		sql_rollback(s);
	return r;
}

static int read_version(struct store *s, int *ret)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &statement, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		*ret = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	return sql_error(s, code);
}

/* The step that begins at this version; NULL: it is the last one. */
static const struct schema_step *step_from(
	int version, const struct schema_step steps[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (steps[i].from == version)
			return &steps[i];
	return NULL;
}

int schema_migrate(struct store *s, const struct schema_step steps[], size_t count)
{
	const struct schema_step *step;
	int version = 0, r = read_version(s, &version);

	if (r == 0)
		r = schema_packing(s, true);
	while (r == 0 && (step = step_from(version, steps, count))) {
		version = step->version;
		r = take_step(s, step, !step_from(version, steps, count));
	}
	return r == 0 ? schema_packing(s, false) : r;
}

static uint32_t big_endian(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

static uint32_t little_endian(const uint8_t *bytes)
{
	return (uint32_t)bytes[3] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[1] << 8 |
	       bytes[0];
}

struct checksum {
	uint32_t a, b;
};

/* The WAL's running checksum; `size` is a multiple of 8. */
static struct checksum checksum(struct checksum c, const uint8_t *data, size_t size, bool big)
{
	for (size_t i = 0; i < size; i += 8) {
		c.a += (big ? big_endian(data + i) : little_endian(data + i)) + c.b;
		c.b += (big ? big_endian(data + i + 4) : little_endian(data + i + 4)) + c.a;
	}
	return c;
}

static bool checksum_is(struct checksum c, const uint8_t *stored)
{
	return c.a == big_endian(stored) && c.b == big_endian(stored + 4);
}

/* Replaces `header` by that of the last committed page 1 in the WAL, if there is one. */
static int read_wal(int fd, uint8_t header[static HEADER_BYTES])
{
	_cleanup_(free_p) uint8_t *frame = NULL;
	uint8_t wal[WAL_HEADER_BYTES], pending[HEADER_BYTES];
	bool big, changed = false;
	struct checksum sum = {0, 0};
	uint32_t page_size;
	off_t at = WAL_HEADER_BYTES;

	if (pread(fd, wal, sizeof(wal), 0) != (ssize_t)sizeof(wal) ||
		(big_endian(wal) & ~1u) != 0x377f0682)
		return 0;
	big = big_endian(wal) & 1;
	page_size = big_endian(wal + 8);
	sum = checksum(sum, wal, 24, big);
	if (!checksum_is(sum, wal + 24) || page_size < 512 || page_size > 65536 ||
		(page_size & (page_size - 1)) != 0)
		return 0;
	frame = malloc(FRAME_BYTES + page_size);
	if (!frame)
		return -ENOMEM;
	for (size_t size = FRAME_BYTES + page_size; pread(fd, frame, size, at) == (ssize_t)size;
		at += (off_t)size) {
		sum = checksum(sum, frame, 8, big);
		sum = checksum(sum, frame + FRAME_BYTES, page_size, big);
		if (memcmp(frame + 8, wal + 16, 8) != 0 || !checksum_is(sum, frame + 16))
			break; /* of the generation before, or torn: here recovery ends */
		if (big_endian(frame) == 1) {
			memcpy(pending, frame + FRAME_BYTES, HEADER_BYTES);
			changed = true;
		}
		if (big_endian(frame + 4) != 0 && changed) /* a commit */
			memcpy(header, pending, HEADER_BYTES);
	}
	return 0;
}

/* *ret_fd stays as it is where there is no such file. */
static int open_for_reading(int dir_fd, const char *name, int *ret_fd)
{
	_cleanup_(close_p) int fd =
		openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : errno == ELOOP ? -EUCLEAN : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int schema_check(int dir_fd)
{
	static const char magic[16] = "SQLite format 3";
	_cleanup_(close_p) int fd = -1, wal_fd = -1;
	uint8_t header[HEADER_BYTES] = {0};
	uint32_t application, version;
	ssize_t size;
	int r = open_for_reading(dir_fd, SCHEMA_FILE, &fd);

	if (r < 0 || fd < 0)
		return r;
	size = pread(fd, header, sizeof(header), 0);
	if (size <= 0)
		return size < 0 ? -errno : 0;
	r = open_for_reading(dir_fd, SCHEMA_FILE "-wal", &wal_fd);
	if (r == 0 && wal_fd >= 0)
		r = read_wal(wal_fd, header);
	if (r < 0)
		return r;
	/* not before: a checkpoint that lost its power may have torn the page of which the WAL has a copy */
	if (size < (ssize_t)sizeof(header) || memcmp(header, magic, sizeof(magic)) != 0)
		return -EUCLEAN;
	application = big_endian(header + 68);
	version = big_endian(header + 60);
	/* No application, no version and a schema that never changed: made by us, and killed before the first step. */
	if (application == 0 && version == 0 && big_endian(header + 40) == 0)
		return 0;
	return application == SCHEMA_APPLICATION_ID && version <= SCHEMA_VERSION ? 0 : -EPROTO;
}
