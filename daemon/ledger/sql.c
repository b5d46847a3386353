/* SPDX-License-Identifier: MIT */

/*
 * Every statement of the store in one table, prepared once and owned by the store; and the one place that turns
 * SQLite's result codes into errno.
 *
 * Binding cannot fail here: parameters are counted by the table's own text, and nothing is copied (all that is bound
 * outlives the step), so that a failure would be a bug of ours and is asserted.
 */

#include "daemon/ledger/store_private.h"

#include "daemon/schema.h"

#define RELEASED SQL_RELEASED("")
/* A claim's length, by which it is a long one or not. */
#define LENGTH                                                                                     \
	"(dur+ifnull(linger,0)*1000+CASE WHEN meta" META_PREEXISTING " THEN 0 ELSE"                \
	" ifnull(opened_slack,0)*1000 END)"
/* Whose the claim of row `c` is: as segment_user.uid has it. */
#define USER_OF(c)                                                                                 \
	"ifnull((SELECT ua.uid FROM process up JOIN app ua ON ua.id=up.app WHERE up.id=" c         \
	".process),-1)"
/* As the enum in seal_rollup.c has them. */
#define SQL_ROLLED                                                                                 \
	"claims,connected,listening,bound,accepted,unattributed,first_usec,last_usec,"             \
	"shortest_usec,longest_usec,sets"
#define ROLLUP_GET(table)                                                                          \
	"SELECT " SQL_ROLLED " FROM " table                                                        \
	" WHERE start_usec=?1 AND app=?2 AND netns=?3 AND apart=?4"
#define ROLLUP_PUT(table)                                                                           \
	"INSERT INTO " table "(start_usec,app,netns,apart,claims,connected,listening,bound,"        \
	"accepted,unattributed,first_usec,last_usec,shortest_usec,longest_usec,ports,remotes,sets)" \
	" VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)"                       \
	" ON CONFLICT(start_usec,app,netns,apart) DO UPDATE SET claims=excluded.claims,"            \
	"connected=excluded.connected,listening=excluded.listening,bound=excluded.bound,"           \
	"accepted=excluded.accepted,unattributed=excluded.unattributed,"                            \
	"first_usec=excluded.first_usec,last_usec=excluded.last_usec,"                              \
	"shortest_usec=excluded.shortest_usec,longest_usec=excluded.longest_usec,"                  \
	"ports=excluded.ports,remotes=excluded.remotes,sets=excluded.sets"
/* What began before ?1, and all but about the last ?2: ids are in the order of sealing. */
#define ROLLUP_OLD(table)                                                                          \
	" FROM " table " WHERE start_usec<?1 OR id<=(SELECT max(id) FROM " table ")-?2"
#define ROLLUP_LAST(table) "SELECT max(start_usec)" ROLLUP_OLD(table)
#define ROLLUP_DROP(table) "DELETE" ROLLUP_OLD(table)
/* What ?2 (enum remote_addresses) leaves of a remote end. `||` makes text of the bytes that it is given, unchanged. */
#define REMOTES_LEFT                                                                               \
	"rport=CASE ?2 WHEN 1 THEN rport END,raddr=CASE ?2 WHEN 1 THEN CAST("                      \
	"CASE length(raddr) WHEN 4 THEN substr(raddr,1,3)||x'00'"                                  \
	" ELSE substr(raddr,1,6)||x'00000000000000000000' END AS BLOB) END"
#define IS_LONG LENGTH ">=" SQL_LONG_USEC

/* How long after its opening an open claim of another boot is known to have lived: to the end of the last session
 * of that boot that saw anything after the claim's own. */
#define ALIVE                                                                                      \
	"max(0,ifnull((SELECT max(n.last_seen_boot_usec) FROM session n WHERE n.boot_id=s.boot_id" \
	" AND (n.id=s.id OR n.last_seen_boot_usec>n.started_boot_usec)),0)-o.opened_boot_usec)"

#define LOCAL      "meta" META_LOCAL
#define END_UNSEEN SQL_NUMBER(META_END_UNSEEN_SHIFT)

#define SAME_BOOT "(SELECT id FROM session WHERE boot_id=?1)"

static const char *const texts[STATEMENT_COUNT] = {
	[STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
	[STATEMENT_COMMIT] = "COMMIT",
	[STATEMENT_PAGES] = "PRAGMA page_count",
	[STATEMENT_FREE_PAGES] = "PRAGMA freelist_count",
	[STATEMENT_COUNTER_GET] = "SELECT value FROM counter WHERE name=?1",
	[STATEMENT_COUNTER_SET] = "INSERT INTO counter(name,value) VALUES(?1,?2)"
				  " ON CONFLICT(name) DO UPDATE SET value=excluded.value",
	[STATEMENT_HIGHEST_CLAIM] =
		"SELECT max(ifnull((SELECT max(claim) FROM claim_open),0),"
		"ifnull((SELECT max(claim) FROM claim_hot),0),ifnull((SELECT max(claim) FROM holder),0))",
	[STATEMENT_HOT_BOUNDS] = "SELECT min(id),max(id) FROM claim_hot",
	[STATEMENT_HOT_FIRST] = "SELECT min(" RELEASED ") FROM claim_hot",

	[STATEMENT_SESSION_NEWEST] =
		"SELECT id,boot_id,last_seen_boot_usec,clean_stop FROM session ORDER BY id DESC LIMIT 1",
	/* One that ended before its first sweep saw nothing, and so says nothing about what was before it. */
	[STATEMENT_SESSION_BEFORE] =
		"SELECT boot_id=?1,clean_stop,last_seen_usec,last_seen_boot_usec,id,ring_generation FROM session"
		" WHERE last_seen_boot_usec>started_boot_usec ORDER BY id DESC LIMIT 1",
	[STATEMENT_SESSION_HOW] =
		"SELECT source,ranges,protocols,accepted,bound_only,netns_all,udp_connect,failures"
		" FROM coverage WHERE session=?1 ORDER BY id DESC LIMIT 1",
	[STATEMENT_SESSION_ADD] =
		"INSERT INTO session(boot_id,started_usec,started_boot_usec,last_seen_usec,"
		"last_seen_boot_usec,version) VALUES(?1,?2,?3,?2,?3,?4)",
	[STATEMENT_SESSION_SEEN] =
		"UPDATE session SET last_seen_usec=?2,last_seen_boot_usec=?3 WHERE id=?1",
	[STATEMENT_SESSION_RING] =
		"UPDATE session SET ring_generation=?2,ring_position=?3,ring_lost=?4,ring_lost_ends=?5,"
		"ring_failures_dropped=?6,ring_at_boot_usec=?7 WHERE id=?1",
	/* Each session has it from the one before. */
	[STATEMENT_RING_BEFORE] =
		"SELECT ring_generation,ring_position,ring_lost,ring_lost_ends,ring_failures_dropped,"
		"ring_at_boot_usec FROM session WHERE id=(SELECT max(id) FROM session) AND boot_id=?1"
		" AND ring_generation IS NOT NULL",
	[STATEMENT_SESSION_CLEAN] = "UPDATE session SET clean_stop=1 WHERE id=?1",
	[STATEMENT_COVERAGE_ADD] =
		"INSERT INTO coverage(session,from_usec,until_usec,source,interval_usec,ranges,"
		"ephemeral_low,ephemeral_high,protocols,bound_only,accepted,foreign_processes,netns_all,"
		"udp_connect,failures) VALUES(?1,?2,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
	[STATEMENT_COVERAGE_EXTEND] =
		"UPDATE coverage SET until_usec=?2 WHERE id=?1 AND until_usec<?2",
	/* What was the present stretch of a session that did not get to say where it ends. */
	[STATEMENT_COVERAGE_SETTLE] = "UPDATE coverage AS c SET until_usec=" SQL_WATCHED_UNTIL
				      " WHERE until_usec<" SQL_WATCHED_UNTIL,
	[STATEMENT_GAP_ADD] =
		"INSERT INTO gap(from_usec,until_usec,reason,lost) VALUES(?1,?2,?3,?4)",
	[STATEMENT_CLOCK_STEP_ADD] = "INSERT INTO clock_step(at_usec,by_usec) VALUES(?1,?2)",

	[STATEMENT_FAILURE_ADD] =
		"INSERT INTO failure(usec,port,meta,error,call,rport,raddr,process,holder,holder_meta,"
		"holder_opened_usec) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
	[STATEMENT_FAILURE_BOUNDS] =
		"SELECT (SELECT min(id) FROM failure),(SELECT max(id) FROM failure),"
		"(SELECT usec FROM failure ORDER BY id LIMIT 1)",
	/* Of the ids below ?1 and the times before ?2. */
	[STATEMENT_FAILURE_NEWEST] = "SELECT max(usec) FROM failure WHERE id<?1 AND usec<?2",
	[STATEMENT_FAILURE_DROP] = "DELETE FROM failure WHERE id<?1 AND usec<?2",
	[STATEMENT_LEFT_OUT_ADD] =
		"INSERT INTO failure_left_out(from_usec,until_usec,n) VALUES(?1,?2,?3)",
	[STATEMENT_LEFT_OUT_DROP] = "DELETE FROM failure_left_out WHERE until_usec<?1",
	[STATEMENT_PROCESS_SEEN] =
		"UPDATE process SET last_seen_usec=?3 WHERE id=?1 AND last_seen_usec<?2",

	[STATEMENT_NETNS_FIND] = "SELECT id FROM netns WHERE cookie=?2 AND session IN " SAME_BOOT,
	[STATEMENT_NETNS_ADD] =
		"INSERT INTO netns(session,cookie,inode,name,ephemeral_low,ephemeral_high)"
		" VALUES(?1,?2,?3,?4,?5,?6)",
	[STATEMENT_NETNS_SET] =
		"UPDATE netns SET inode=ifnull(nullif(?2,0),inode),name=ifnull(?3,name),"
		"ephemeral_low=CASE WHEN ?5<>0 THEN ?4 ELSE ephemeral_low END,"
		"ephemeral_high=ifnull(nullif(?5,0),ephemeral_high) WHERE id=?1",
	[STATEMENT_LOCAL_FIND] = "SELECT id FROM local WHERE netns=?1 AND address=?2",
	[STATEMENT_LOCAL_ADD] = "INSERT INTO local(netns,address) VALUES(?1,?2)",
	[STATEMENT_APP_FIND] =
		"SELECT id FROM app WHERE ifnull(exe,'')=ifnull(?1,'') AND ifnull(comm,'')=ifnull(?2,'')"
		" AND exe_note=?3 AND ifnull(uid,-1)=ifnull(?4,-1) AND ifnull(unit,'')=ifnull(?5,'')"
		" AND ifnull(cgroup,'')=ifnull(?6,'')",
	[STATEMENT_APP_ADD] = "INSERT INTO app(exe,comm,exe_note,uid,unit,cgroup,first_seen_usec)"
			      " VALUES(?1,?2,?3,?4,?5,?6,?7)",
	[STATEMENT_PROCESS_ADD] =
		"INSERT INTO process(app,session,pid,start_boot_usec,pidfd_inode,parent_pid,parent_comm,"
		"last_seen_usec) VALUES(?1,?2,?3,?4,?5,?6,?7,?8)",
	[STATEMENT_HOLDER_PUT] =
		"INSERT OR REPLACE INTO holder(claim,n,process,from_usec,until_usec) VALUES(?1,?2,?3,?4,?5)",
	[STATEMENT_OPEN_SET] =
		"UPDATE claim_open SET session=?2,cookie=?3,port=?4,opened_usec=?5,opened_boot_usec=?6,"
		"opened_slack=?7,closed_usec=?8,closed_slack=?9,meta=?10,rport=?11,raddr=?12,process=?13"
		" WHERE claim=?1",
	[STATEMENT_OPEN_ADD] =
		"INSERT INTO claim_open(claim,session,cookie,port,opened_usec,opened_boot_usec,opened_slack,"
		"closed_usec,closed_slack,meta,rport,raddr,process)"
		" VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)",
	[STATEMENT_OPEN_DROP] = "DELETE FROM claim_open WHERE claim=?1",
	[STATEMENT_HOT_ADD] =
		"INSERT INTO claim_hot(id,claim,holders,port,opened_usec,dur,opened_slack,closed_slack,"
		"linger,meta,rport,raddr,process) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)",

	/* One whose full socket was seen to go keeps that end; the others end, unseen, where they last were. */
	[STATEMENT_ADOPT_CLOSE] =
		"INSERT INTO claim_hot(id,claim,holders,port,opened_usec,dur,opened_slack,closed_slack,"
		"linger,meta,rport,raddr,process) SELECT ?2-1+row_number() OVER (ORDER BY claim),claim,"
		"EXISTS(SELECT 1 FROM holder h WHERE h.claim=a.claim),port,opened_usec,"
		"ifnull(closed_usec-opened_usec,alive),opened_slack,"
		"CASE WHEN closed_usec IS NULL THEN 0 ELSE closed_slack END,"
		"nullif((max(0,alive-(closed_usec-opened_usec))+999)/1000,0),"
		"meta|((closed_usec IS NULL)<<" END_UNSEEN "),rport,raddr,process"
		" FROM (SELECT o.*," ALIVE
		" AS alive FROM claim_open o LEFT JOIN session s ON s.id=o.session"
		" WHERE s.boot_id IS NOT ?1) a",
	[STATEMENT_ADOPT_DROP] = "DELETE FROM claim_open WHERE session NOT IN " SAME_BOOT,
	[STATEMENT_ADOPT_LIST] =
		"SELECT o.claim,o.cookie,o.port,o.opened_usec,o.opened_boot_usec,o.opened_slack,"
		"o.closed_usec,o.closed_slack,o.meta,o.rport,o.raddr,o.process,l.address,n.cookie"
		" FROM claim_open o LEFT JOIN local l ON l.id=o.meta" META_LOCAL
		" LEFT JOIN netns n ON n.id=l.netns"
		" ORDER BY o.opened_boot_usec,o.claim",
	[STATEMENT_ADOPT_HOLDERS] =
		"SELECT process,from_usec,until_usec FROM holder WHERE claim=?1 ORDER BY n",
	[STATEMENT_ADOPT_PROCESS] =
		"SELECT p.app,p.pid,p.start_boot_usec,p.pidfd_inode,p.parent_pid,p.parent_comm,a.exe,"
		"a.exe_note,a.comm,a.uid,a.unit,a.cgroup FROM process p JOIN app a ON a.id=p.app"
		" WHERE p.id=?1",

	/* Of claim_hot the rows with an id below ?1. */
	[STATEMENT_HOT_OLDEST] = "SELECT " RELEASED " FROM claim_hot WHERE id=?1",
	[STATEMENT_SEGMENT_NEXT] = "SELECT max(id)+1 FROM segment",
	[STATEMENT_SEGMENT_ADD] =
		"INSERT INTO segment(id,base_usec,opened_from,opened_to,released_from,released_to,"
		"max_slack_usec,n,slack_msec) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
	/* The third column says which table gets the row. */
	[STATEMENT_SEAL_LIST] = "SELECT claim,holders," IS_LONG "," RELEASED
				",port,opened_usec,dur,opened_slack,closed_slack,linger,meta,"
				"rport,process,raddr FROM claim_hot WHERE id<?1",
	[STATEMENT_SEAL_ROW] =
		"INSERT INTO claim_seg(seg,port,rel,claim,dur,opened_slack,closed_slack,linger,meta,rport,"
		"process,raddr) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
	[STATEMENT_SEAL_LONG] =
		"INSERT INTO claim_long(port,opened_usec,claim,dur,opened_slack,closed_slack,linger,meta,"
		"rport,process,raddr) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
	[STATEMENT_COALESCED_ADD] =
		"INSERT INTO coalesced(seg,port,opened_usec,opened_slack,closed_usec,released_usec,meta,rport,"
		"process,n,spread_usec,shortest_usec,longest_usec,life_usec,linger_usec,raddr,ports)"
		" VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)",
	[STATEMENT_SEAL_SEEN] =
		"UPDATE process SET last_seen_usec=?3 WHERE last_seen_usec<?2 AND id IN"
		" (SELECT process FROM claim_hot WHERE id<?1)",
	[STATEMENT_SEAL_SEEN_HOLDERS] =
		"UPDATE process SET last_seen_usec=?3 WHERE last_seen_usec<?2 AND id IN (SELECT h.process"
		" FROM claim_hot c CROSS JOIN holder h ON h.claim=c.claim WHERE c.id<?1 AND c.holders)",
	[STATEMENT_SEAL_DROP] = "DELETE FROM claim_hot WHERE id<?1",
	[STATEMENT_SEAL_DROP_ALL] = "DELETE FROM claim_hot",

	[STATEMENT_MARK_ADD] =
		"INSERT INTO claim_mark(kind,at_usec,seg,port,opened_usec,claim,dur,linger,meta,app,"
		"netns,unattributed,bounded,remote) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
	[STATEMENT_MARK_DROP] = "DELETE FROM claim_mark WHERE kind=?1 AND at_usec<?2",
	[STATEMENT_MARK_DROP_APART] =
		"DELETE FROM claim_mark WHERE kind=0 AND at_usec<?1 AND (seg<>0 OR NOT EXISTS(SELECT 1 FROM"
		" claim_long c WHERE c.port=claim_mark.port AND c.opened_usec=claim_mark.opened_usec"
		" AND c.claim=claim_mark.claim))",

	[STATEMENT_ROLLUP_CREDIT] =
		"SELECT h.process FROM holder h WHERE h.claim=?1 AND (SELECT pid FROM process WHERE id=?2)=1"
		" ORDER BY h.until_usec DESC NULLS FIRST,h.n DESC LIMIT 1",
	[STATEMENT_ROLLUP_APP] = "SELECT app,pid FROM process WHERE id=?1",
	[STATEMENT_ROLLUP_NETNS] = "SELECT netns,NULL FROM local WHERE id=?1",
	[STATEMENT_ROLLUP_HOUR_GET] = ROLLUP_GET("rollup_hour"),
	[STATEMENT_ROLLUP_HOUR_PUT] = ROLLUP_PUT("rollup_hour"),
	[STATEMENT_ROLLUP_HOUR_FROM] =
		"SELECT min(start_usec) FROM rollup_hour WHERE start_usec>=?1",
	[STATEMENT_ROLLUP_HOURS_OF_DAY] =
		"SELECT " SQL_ROLLED ",app,netns,apart FROM rollup_hour"
		" WHERE start_usec>=?1 AND start_usec<?1+86400000000 ORDER BY app,netns,apart",
	[STATEMENT_ROLLUP_HOUR_LAST] = ROLLUP_LAST("rollup_hour"),
	[STATEMENT_ROLLUP_HOUR_DROP] = ROLLUP_DROP("rollup_hour"),
	[STATEMENT_ROLLUP_DAY_GET] = ROLLUP_GET("rollup_day"),
	[STATEMENT_ROLLUP_DAY_PUT] = ROLLUP_PUT("rollup_day"),
	[STATEMENT_ROLLUP_DAY_LAST] = ROLLUP_LAST("rollup_day"),
	[STATEMENT_ROLLUP_DAY_DROP] = ROLLUP_DROP("rollup_day"),
	[STATEMENT_PROCESS_UID] =
		"SELECT a.uid FROM process p JOIN app a ON a.id=p.app WHERE p.id=?1",
	[STATEMENT_USER_ADD] = "INSERT INTO segment_user(uid,seg,n) VALUES(?1,?2,?3)",
	/* Who has most rows, how many, and how many there are in all. */
	[STATEMENT_USER_MOST] =
		"SELECT uid,sum(n) AS most,(SELECT sum(n) FROM segment_user) FROM segment_user"
		" GROUP BY uid ORDER BY most DESC,uid LIMIT 1",
	[STATEMENT_USER_OLDEST] =
		"SELECT u.seg,s.opened_from-s.max_slack_usec,s.released_to FROM segment_user u"
		" LEFT JOIN segment s ON s.id=u.seg WHERE u.uid=?1 ORDER BY u.seg LIMIT 1",
	/* The rows of user ?2 in segment ?1. */
	[STATEMENT_USER_DROP_HOLDERS] =
		"DELETE FROM holder WHERE claim IN (SELECT c.claim FROM claim_seg c"
		" WHERE c.seg=?1 AND c.claim<>0 AND " USER_OF("c") "=?2)",
	[STATEMENT_USER_DROP_ROWS] =
		"DELETE FROM claim_seg WHERE seg=?1 AND " USER_OF("claim_seg") "=?2",
	[STATEMENT_USER_COALESCED] =
		"SELECT sum(n) FROM coalesced WHERE seg=?1 AND " USER_OF("coalesced") "=?2",
	[STATEMENT_USER_DROP_COALESCED] =
		"DELETE FROM coalesced WHERE seg=?1 AND " USER_OF("coalesced") "=?2",
	[STATEMENT_USER_DROP] = "DELETE FROM segment_user WHERE seg=?1 AND uid=?2",
	[STATEMENT_SEGMENT_LESS] = "UPDATE segment SET n=n-?2 WHERE id=?1",
	[STATEMENT_SEGMENT_DROP_EMPTY] = "DELETE FROM segment WHERE id=?1 AND n=0",
	[STATEMENT_SEGMENT_DROP_USERS] = "DELETE FROM segment_user WHERE seg=?1",
	/* The last gap of this reason, where it touches, has a number and stays within ?5. */
	[STATEMENT_GAP_EXTEND] =
		"UPDATE gap SET from_usec=min(from_usec,?1),until_usec=max(until_usec,?2),lost=lost+?4"
		" WHERE id=(SELECT max(id) FROM gap WHERE reason=?3) AND from_usec<=?2 AND until_usec+?6>=?1"
		" AND lost IS NOT NULL AND max(until_usec,?2)-min(from_usec,?1)<=?5",

	[STATEMENT_SEGMENT_EXPIRED] =
		"SELECT id,released_to FROM segment WHERE released_to<?1 ORDER BY released_to LIMIT 1",
	[STATEMENT_SEGMENT_OLDEST] = "SELECT id,released_to FROM segment ORDER BY id LIMIT 1",
	[STATEMENT_SEGMENT_DROP_HOLDERS] =
		"DELETE FROM holder WHERE claim IN (SELECT claim FROM claim_seg WHERE seg=?1 AND claim<>0)",
	[STATEMENT_SEGMENT_DROP_ROWS] = "DELETE FROM claim_seg WHERE seg=?1",
	[STATEMENT_SEGMENT_DROP_COALESCED] = "DELETE FROM coalesced WHERE seg=?1",
	[STATEMENT_SEGMENT_DROP] = "DELETE FROM segment WHERE id=?1",
	/* Of the ports [?1, ?2) what was released before ?3. */
	[STATEMENT_LONG_DROP_HOLDERS] =
		"DELETE FROM holder WHERE claim IN (SELECT claim FROM claim_long WHERE port>=?1 AND port<?2"
		" AND " RELEASED "<?3)",
	[STATEMENT_LONG_DROP] =
		"DELETE FROM claim_long WHERE port>=?1 AND port<?2 AND " RELEASED "<?3",
	/* Of what is from before ?2, or ?3: that of whose remote ends ?1 is left. */
	[STATEMENT_REMOTES_DUE] =
		"SELECT EXISTS(SELECT 1 FROM segment WHERE remotes=?1 AND released_to<?2)"
		" OR EXISTS(SELECT 1 FROM claim_long WHERE remotes=?1 AND raddr IS NOT NULL AND " RELEASED
		"<?2) OR EXISTS(SELECT 1 FROM failure WHERE remotes=?1 AND raddr IS NOT NULL AND usec<?2)",
	[STATEMENT_REMOTES_SEGMENT] =
		"SELECT id FROM segment WHERE remotes=?1 AND released_to<?2 ORDER BY released_to LIMIT 1",
	[STATEMENT_REMOTES_ROWS] =
		"UPDATE claim_seg SET " REMOTES_LEFT " WHERE seg=?1 AND raddr IS NOT NULL",
	[STATEMENT_REMOTES_COALESCED] =
		"UPDATE coalesced SET " REMOTES_LEFT " WHERE seg=?1 AND raddr IS NOT NULL",
	[STATEMENT_REMOTES_DONE] = "UPDATE segment SET remotes=?2 WHERE id=?1",
	[STATEMENT_REMOTES_LONG] =
		"UPDATE claim_long SET remotes=?2," REMOTES_LEFT
		" WHERE (port,opened_usec,claim) IN (SELECT port,opened_usec,claim FROM claim_long"
		" WHERE remotes=?1 AND raddr IS NOT NULL AND " RELEASED "<?3 ORDER BY " RELEASED
		" LIMIT ?4)",
	[STATEMENT_REMOTES_FAILURES] =
		"UPDATE failure SET remotes=?2," REMOTES_LEFT " WHERE id IN (SELECT id FROM failure"
		" WHERE remotes=?1 AND raddr IS NOT NULL AND usec<?3 ORDER BY usec LIMIT ?4)",
	[STATEMENT_COVERAGE_DROP] = "DELETE FROM coverage WHERE until_usec<?1 AND id<>?2",
	[STATEMENT_GAP_DROP] = "DELETE FROM gap WHERE until_usec<?1",
	[STATEMENT_CLOCK_STEP_DROP] = "DELETE FROM clock_step WHERE at_usec<?1",
	[STATEMENT_SESSION_DROP] = "DELETE FROM session WHERE last_seen_usec<?2 AND boot_id<>?1"
				   " AND id NOT IN (SELECT session FROM claim_open)",
	[STATEMENT_PROCESS_HIGHEST] = "SELECT max(id) FROM process",
	/* last_seen covers what is sealed; the rest is named here, or made too lately to be older than ?3. */
	[STATEMENT_PROCESS_DROP] =
		"DELETE FROM process WHERE id>=?1 AND id<?2 AND last_seen_usec<?3 AND id NOT IN ("
		"SELECT process FROM claim_hot WHERE process IS NOT NULL"
		" UNION SELECT process FROM claim_open WHERE process IS NOT NULL"
		" UNION SELECT h.process FROM claim_hot c CROSS JOIN holder h ON h.claim=c.claim WHERE c.holders"
		" UNION SELECT h.process FROM claim_open c CROSS JOIN holder h ON h.claim=c.claim) RETURNING id",
	[STATEMENT_APP_DROP] =
		"DELETE FROM app WHERE id IN (SELECT id FROM app WHERE id NOT IN"
		" (SELECT app FROM process UNION SELECT app FROM rollup_hour UNION"
		" SELECT app FROM rollup_day UNION SELECT app FROM claim_mark WHERE app>0)"
		" ORDER BY id LIMIT ?1) RETURNING id",
	[STATEMENT_LOCAL_DROP] =
		"DELETE FROM local WHERE id IN (SELECT id FROM local WHERE id NOT IN"
		" (SELECT " LOCAL " FROM claim_seg UNION SELECT " LOCAL " FROM claim_long UNION"
		" SELECT " LOCAL " FROM claim_hot UNION SELECT " LOCAL " FROM claim_open UNION"
		" SELECT " LOCAL " FROM coalesced UNION"
		" SELECT " LOCAL " FROM failure)"
		" ORDER BY id LIMIT ?1) RETURNING id",
	/* One of this boot stays if we were told what it is: nobody tells us again. */
	[STATEMENT_NETNS_DROP] =
		"DELETE FROM netns WHERE id IN (SELECT id FROM netns WHERE id NOT IN (SELECT netns FROM local)"
		" AND (inode=0 OR session NOT IN (SELECT id FROM session WHERE boot_id=?2))"
		" ORDER BY id LIMIT ?1) RETURNING id",

	[STATEMENT_KNOWN_LIST] = "SELECT program,protocol,port FROM known",
	[STATEMENT_KNOWN_PORTS] =
		"SELECT count(*) FROM known WHERE program=?1 AND protocol=?2 AND port<>0",
	[STATEMENT_NEWS_ADD] = "INSERT INTO news(protocol,claim) VALUES(?1,?2)",
	[STATEMENT_NEWS_DROP] = "DELETE FROM news WHERE id<=(SELECT max(id) FROM news)-?1",
	[STATEMENT_KNOWN_ADD] =
		"INSERT OR IGNORE INTO known(program,protocol,port,name,exe_note,first_seen_usec)"
		" VALUES(?1,?2,?3,substr(?4,1,256),?5,?6)",
};

int sql_error(struct store *s, int code)
{
	switch (code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	default:
		break; /* of SQLite's codes, not of ours */
	}
	if (code == SQLITE_IOERR_NOMEM)
		return -ENOMEM;
	switch (s->db ? sqlite3_system_errno(s->db) : 0) {
	case ENOSPC:
	case EDQUOT:
		return -ENOSPC;
	case EROFS:
		return -EROFS;
	default:
		return -EIO;
	}
}

int sql_exec(struct store *s, const char *sql)
{
	return sql_error(s, sqlite3_exec(s->db, sql, NULL, NULL, NULL));
}

void sql_rollback(struct store *s)
{
	/* What this could not undo, the next opening does not find: it has no commit frame in the WAL. */
	if (!sqlite3_get_autocommit(s->db))
		(void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

int sql_prepare(struct store *s)
{
	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		int code = sqlite3_prepare_v3(
			s->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i], NULL);

		if (code != SQLITE_OK)
			return sql_error(s, code);
	}
	return 0;
}

void sql_done(struct store *s)
{
	for (size_t i = 0; i < ELEMENTSOF(s->statements); i++) {
		sqlite3_finalize(s->statements[i]);
		s->statements[i] = NULL;
	}
}

struct binder sql_bind(struct store *s, enum statement which)
{
	return (struct binder){.statement = s->statements[which], .next = 1};
}

void bind_int(struct binder *b, int64_t value)
{
	int code = sqlite3_bind_int64(b->statement, b->next++, value);

	assert(code == SQLITE_OK);
}

void bind_unsigned(struct binder *b, uint64_t value)
{
	bind_int(b, (int64_t)value);
}

void bind_null(struct binder *b)
{
	int code = sqlite3_bind_null(b->statement, b->next++);

	assert(code == SQLITE_OK);
}

void bind_time(struct binder *b, usec_t value)
{
	if (value == USEC_UNSET)
		bind_null(b);
	else
		bind_unsigned(b, value);
}

void bind_text(struct binder *b, const char *text)
{
	int code = sqlite3_bind_text(b->statement, b->next++, text, -1, SQLITE_STATIC);

	assert(code == SQLITE_OK);
}

void bind_blob(struct binder *b, const void *data, size_t size)
{
	int code = sqlite3_bind_blob(b->statement, b->next++, data, (int)size, SQLITE_STATIC);

	assert(code == SQLITE_OK);
}

int sql_step(struct store *s, enum statement which)
{
	int code = sqlite3_step(s->statements[which]);

	if (code == SQLITE_ROW)
		return 1;
	sql_reset(s, which);
	return sql_error(s, code);
}

int sql_run(struct store *s, enum statement which)
{
	int r = sql_step(s, which);

	assert(r <= 0);
	return r;
}

int sql_value(struct store *s, enum statement which, int64_t otherwise, int64_t *ret)
{
	int r = sql_step(s, which);

	if (r < 0)
		return r;
	*ret = otherwise;
	if (r > 0 && sqlite3_column_type(s->statements[which], 0) != SQLITE_NULL)
		*ret = sqlite3_column_int64(s->statements[which], 0);
	if (r > 0)
		sql_reset(s, which);
	return 0;
}

void sql_reset(struct store *s, enum statement which)
{
	(void)sqlite3_reset(s->statements[which]); /* says again what the step said */
}
