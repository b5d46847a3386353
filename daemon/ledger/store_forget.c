/* SPDX-License-Identifier: MIT */

/*
 * Erasing what is known of a user or of a window (portledgerd --forget).
 *
 * Offline, so that time does not matter and a plain walk over every table does: all in one transaction, then VACUUM, which writes
 * each page anew without what was deleted before, and a checkpoint that leaves an empty WAL. A claim is a user's whose program he
 * ran; where he only held somebody else's, he goes and the claim stays. What then refers to nothing goes as well: processes, programs,
 * addresses, network namespaces. Over the time of what went a gap "forgotten" stays, which does not say whose it was.
 *
 * The parameters of each statement: ?1 the uid, or NULL for everybody's; ?2 and ?3 the window.
 */

#include "daemon/ledger/store_private.h"

#include "daemon/schema.h"

#define PREPARE                                                                                       \
	"PRAGMA secure_delete=ON; PRAGMA temp_store=FILE; PRAGMA synchronous=FULL;"                   \
	"CREATE TEMP TABLE theirs(id INTEGER PRIMARY KEY); CREATE TEMP TABLE gone(claim INT,"         \
	" opened INT, released INT); CREATE TEMP TABLE strangers(program INT);"                       \
	"BEGIN IMMEDIATE;" /* numbers are never given twice */                                        \
	"INSERT INTO counter SELECT 'next_hot',max(id)+1 FROM claim_hot WHERE true HAVING count(*)>0" \
	" ON CONFLICT(name) DO UPDATE SET value=max(value,excluded.value)"

#define THEIRS(c)                           "(?1 IS NULL OR " c " IN (SELECT id FROM theirs))"
#define TOUCHES(from, until)                from "<?3 AND " until ">=?2"
#define NAME                                "substr(ifnull(a.exe,a.comm),1,256)"
#define RELEASED                            SQL_RELEASED("")
#define OPENED_SEG                          "(SELECT s.base_usec FROM segment s WHERE s.id=seg)+rel"
#define CLAIM_ROWS(opened, released, table) CLAIM_ROWS_OF("claim", opened, released, table)
#define CLAIM_ROWS_OF(claim, opened, released, table)                                              \
	"INSERT INTO gone SELECT " claim "," opened "," released " FROM " table                    \
	" WHERE " THEIRS("process") " AND " TOUCHES(opened, "ifnull(" released "," FOR_EVER ")")
#define DROP_CLAIMS(opened, released, table)                                                       \
	"DELETE FROM " table " WHERE " THEIRS("process") " AND " TOUCHES(opened, released)
#define RELEASED_SEG OPENED_SEG "+dur+ifnull(linger,0)*1000"
#define FOR_EVER     "9223372036854775807"
/* Of an hour or a day, the whole sum goes: what it is of cannot be told apart. */
#define DROP_ROLLUP(table, length)                                                                 \
	"DELETE FROM " table                                                                       \
	" WHERE (?1 IS NULL OR app IN (SELECT id FROM app WHERE uid=?1)) AND " TOUCHES(            \
		"start_usec", "start_usec+" length "-1")
#define PROCESSES                                                                                  \
	"SELECT process FROM claim_seg UNION SELECT process FROM claim_long"                       \
	" UNION SELECT process FROM coalesced"                                                     \
	" UNION SELECT process FROM claim_hot UNION SELECT process FROM claim_open"                \
	" UNION SELECT process FROM holder UNION SELECT process FROM failure"                      \
	" UNION SELECT holder FROM failure"
#define LOCALS                                                                                     \
	"SELECT meta" META_LOCAL " FROM claim_seg UNION SELECT meta" META_LOCAL                    \
	" FROM claim_long UNION SELECT meta" META_LOCAL                                            \
	" FROM claim_hot UNION SELECT meta" META_LOCAL                                             \
	" FROM claim_open UNION SELECT meta" META_LOCAL                                            \
	" FROM coalesced UNION SELECT meta" META_LOCAL " FROM failure"

static const struct {
	const char *sql;
	bool counts; /* what it deletes is said */
} steps[] = {
	{"INSERT INTO theirs SELECT p.id FROM process p JOIN app a ON a.id=p.app WHERE a.uid=?1",
		false},
	{CLAIM_ROWS(OPENED_SEG, RELEASED_SEG, "claim_seg"), false},
	{CLAIM_ROWS_OF("0", "opened_usec", "released_usec", "coalesced"), false},
	{CLAIM_ROWS("opened_usec", RELEASED, "claim_long"), false},
	{CLAIM_ROWS("opened_usec", RELEASED, "claim_hot"), false},
	{CLAIM_ROWS("opened_usec", "NULL", "claim_open"), false},
	{"INSERT INTO gone SELECT NULL,usec,usec FROM failure WHERE " THEIRS(
		 "process") " AND " TOUCHES("usec", "usec"),
		false},
	{"DELETE FROM holder WHERE claim IN (SELECT claim FROM gone WHERE claim<>0) OR (?1 IS NOT NULL AND "
	 "process IN (SELECT id FROM theirs) AND " TOUCHES(
		 "from_usec", "ifnull(until_usec," FOR_EVER ")") ")",
		true},
	{DROP_CLAIMS(OPENED_SEG, RELEASED_SEG, "claim_seg"), true},
	{DROP_CLAIMS("opened_usec", "released_usec", "coalesced"), true},
	{DROP_CLAIMS("opened_usec", RELEASED, "claim_long"), true},
	{DROP_CLAIMS("opened_usec", RELEASED, "claim_hot"), true},
	{DROP_CLAIMS("opened_usec", FOR_EVER, "claim_open"), true},
	{"DELETE FROM failure WHERE " THEIRS("process") " AND " TOUCHES("usec", "usec"), true},
	{"UPDATE failure SET holder=NULL,holder_meta=NULL,holder_opened_usec=NULL,"
	 "rport=CASE WHEN call<>1 THEN rport END,raddr=CASE WHEN call<>1 THEN raddr END WHERE holder IN"
	 " (SELECT id FROM theirs) AND " TOUCHES("usec", "usec"),
		false},
	{"DELETE FROM claim_mark WHERE NOT EXISTS(SELECT 1 FROM segment s CROSS JOIN claim_seg c"
	 " ON c.seg=s.id AND c.port=claim_mark.port AND c.rel=claim_mark.opened_usec-s.base_usec"
	 " AND c.claim=claim_mark.claim WHERE s.id=claim_mark.seg) AND NOT EXISTS(SELECT 1 FROM claim_long c"
	 " WHERE claim_mark.seg=0 AND c.port=claim_mark.port AND c.opened_usec=claim_mark.opened_usec"
	 " AND c.claim=claim_mark.claim)",
		false},
	{DROP_ROLLUP("rollup_hour", "3600000000"), true},
	{DROP_ROLLUP("rollup_day", "86400000000"), true},

	/* what a segment says of its rows */
	{"UPDATE segment SET n=(SELECT count(*) FROM claim_seg c WHERE c.seg=segment.id)"
	 "+(SELECT count(*) FROM coalesced c WHERE c.seg=segment.id)",
		false},
	{"DELETE FROM segment WHERE n=0", false},
	{"DELETE FROM segment_user", false},
	{"INSERT INTO segment_user SELECT ifnull(a.uid,-1),c.seg,sum(c.weight) FROM"
	 " (SELECT seg,process,1 AS weight FROM claim_seg UNION ALL SELECT seg,process,"
	 "(n-1)/" SQL_NUMBER(
		 COALESCED_OF_ROW) "+1 FROM coalesced) c"
				   " LEFT JOIN process p ON p.id=c.process LEFT JOIN app a ON a.id=p.app GROUP BY 1,2",
		false},

	/* what nothing refers to */
	{"DELETE FROM process WHERE id NOT IN (SELECT * FROM (" PROCESSES
	 ") WHERE process IS NOT NULL)",
		true},
	{"INSERT INTO strangers SELECT k.program FROM known k WHERE k.name IN (SELECT " NAME
	 " FROM app a"
	 " WHERE a.id NOT IN (SELECT app FROM process UNION SELECT app FROM rollup_hour UNION SELECT app FROM rollup_day))"
	 " AND k.name NOT IN (SELECT " NAME
	 " FROM app a WHERE ifnull(a.exe,a.comm) IS NOT NULL AND a.id IN"
	 " (SELECT app FROM process UNION SELECT app FROM rollup_hour UNION SELECT app FROM rollup_day))",
		false},
	{"DELETE FROM known WHERE program IN (SELECT program FROM strangers)", true},
	{"DELETE FROM app WHERE id NOT IN"
	 " (SELECT app FROM process UNION SELECT app FROM rollup_hour UNION SELECT app FROM rollup_day)",
		true},
	{"DELETE FROM local WHERE id NOT IN (" LOCALS ")", true},
	/* its name may be the unit of whom it was; what the next daemon sees of one that is still there, it tells */
	{"DELETE FROM netns WHERE id NOT IN (SELECT netns FROM local UNION SELECT netns FROM rollup_hour"
	 " UNION SELECT netns FROM rollup_day)",
		true},

	/* a window says so in any case, up to when something could be known; of a user, the time of what went */
	{"INSERT INTO gap(from_usec,until_usec,reason,lost) SELECT max(min(opened),?2),min(max(ifnull(released,"
	 "max(opened,(SELECT max(last_seen_usec) FROM session)))),?3),'forgotten',NULL FROM gone"
	 " WHERE ?1 IS NOT NULL HAVING count(*)>0",
		false},
	{"INSERT INTO gap(from_usec,until_usec,reason,lost) SELECT ?2,min(?3,max(last_seen_usec)),'forgotten',NULL"
	 " FROM session WHERE ?1 IS NULL HAVING max(last_seen_usec)>?2",
		false},
};

static int run(struct store *s, const char *sql, const struct forget *what)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL);
	usec_t bounds[] = {what->from, MIN(what->until, (usec_t)INT64_MAX)};

	if (code == SQLITE_OK && what->user && sqlite3_bind_parameter_count(statement) >= 1)
		code = sqlite3_bind_int64(statement, 1, what->uid);
	for (int i = 0; code == SQLITE_OK && i < 2; i++)
		if (sqlite3_bind_parameter_count(statement) >= i + 2)
			code = sqlite3_bind_int64(statement, i + 2, (sqlite3_int64)bounds[i]);
	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	sqlite3_finalize(statement);
	return sql_error(s, code);
}

/* Nothing of it is in the free pages, in the free parts of pages or in the WAL. */
static int overwrite(struct store *s)
{
	int frames = 0, moved = 0;
	int r = sql_exec(s, "VACUUM");

	if (r == 0)
		r = sql_error(s, sqlite3_wal_checkpoint_v2(s->db, "main",
					 SQLITE_CHECKPOINT_TRUNCATE, &frames, &moved));
	return r;
}

int forget_rows(struct store *s, const struct forget *what, uint64_t *ret_rows)
{
	uint64_t rows = 0;
	int r = maintain_renew_wal(s);

	if (r == 0)
		r = sql_exec(s, PREPARE);

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(steps); i++) {
		r = run(s, steps[i].sql, what);
		if (r == 0 && steps[i].counts)
			rows += (uint64_t)sqlite3_changes64(s->db);
	}
	if (r == 0)
		r = sql_exec(s, "COMMIT");
	if (r < 0) {
		sql_rollback(s);
		return r;
	}
	*ret_rows = rows;
	return overwrite(s);
}
