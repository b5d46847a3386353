/* SPDX-License-Identifier: MIT */

/*
 * What one would do without thinking about it: one normalised table, an index for the question "who had this port at
 * that time" and one for "what happened then". The same claims, commits, fsyncs, page cache and checkpoints.
 */

#include "bench/writing.h"

#include <sqlite3.h>
#include <stdio.h>

#define CHECKPOINT_FRAMES 1024

static const char schema[] =
	"PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;"
	"PRAGMA synchronous=FULL; PRAGMA cache_size=-8192; PRAGMA secure_delete=OFF;"
	"PRAGMA temp_store=MEMORY;"
	"CREATE TABLE process(id INTEGER PRIMARY KEY,pid INT,start_boot_usec INT,pidfd_inode INT,"
	"parent_pid INT,parent_comm TEXT,app INT,last_seen_usec INT);"
	"CREATE TABLE claim(id INTEGER PRIMARY KEY,port INT NOT NULL,opened_usec INT NOT NULL,"
	"opened_after_usec INT,closed_usec INT,closed_after_usec INT,released_usec INT,meta INT,"
	"rport INT,raddr BLOB,process INT);"
	"CREATE INDEX claim_port ON claim(port,opened_usec);"
	"CREATE INDEX claim_opened ON claim(opened_usec);";

struct plain {
	sqlite3 *db;
	sqlite3_stmt *begin, *commit, *add, *process;
	int frames;
};

static int on_wal(void *context, sqlite3 *db, const char *name, int frames)
{
	(void)db;
	(void)name;
	((struct plain *)context)->frames = frames;
	return SQLITE_OK;
}

static int begin(struct plain *p, const char *path)
{
	const struct {
		sqlite3_stmt **statement;
		const char *sql;
	} statements[] = {
		{&p->begin, "BEGIN IMMEDIATE"},
		{&p->commit, "COMMIT"},
		{&p->add, "INSERT INTO claim(port,opened_usec,opened_after_usec,closed_usec,"
			  "closed_after_usec,released_usec,meta,rport,raddr,process)"
			  " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)"},
		{&p->process, "INSERT INTO process(pid,start_boot_usec,pidfd_inode,parent_pid,"
			      "parent_comm,app,last_seen_usec) VALUES(?1,?2,?3,?4,?5,?6,?7)"},
	};
	int code = sqlite3_open(path, &p->db);

	if (code == SQLITE_OK)
		code = sqlite3_exec(p->db, schema, NULL, NULL, NULL);
	for (size_t i = 0; code == SQLITE_OK && i < ELEMENTSOF(statements); i++)
		code = sqlite3_prepare_v3(p->db, statements[i].sql, -1, SQLITE_PREPARE_PERSISTENT,
			statements[i].statement, NULL);
	sqlite3_wal_hook(p->db, on_wal, p);
	return code == SQLITE_OK ? 0 : -EIO;
}

static int run(sqlite3_stmt *statement)
{
	(void)sqlite3_step(statement);
	return sqlite3_reset(statement) == SQLITE_OK ? 0 : -EIO;
}

static void bind_time(sqlite3_stmt *s, int at, usec_t value)
{
	if (value != USEC_UNSET)
		(void)sqlite3_bind_int64(s, at, (int64_t)value);
	else
		(void)sqlite3_bind_null(s, at);
}

static int add_process(struct plain *p, struct process *process, usec_t when)
{
	if (process->store_id)
		return 0;
	bind_time(p->process, 1, (usec_t)process->pid);
	bind_time(p->process, 2, process->start_boot);
	bind_time(p->process, 3, process->pidfd_inode);
	bind_time(p->process, 4, (usec_t)process->parent_pid);
	(void)sqlite3_bind_text(p->process, 5, process->parent_comm, -1, SQLITE_STATIC);
	bind_time(p->process, 6, (usec_t)process->parent_pid);
	bind_time(p->process, 7, when);
	if (run(p->process) < 0)
		return -EIO;
	process->store_id = (uint64_t)sqlite3_last_insert_rowid(p->db);
	return 0;
}

static int add(struct plain *p, struct claim *c)
{
	if (add_process(p, c->opener, c->opened_wall) < 0)
		return -EIO;
	bind_time(p->add, 1, c->local.port);
	bind_time(p->add, 2, c->opened_wall);
	bind_time(p->add, 3, claim_wall(c, c->opened_after_boot));
	bind_time(p->add, 4, claim_wall(c, c->closed_boot));
	bind_time(p->add, 5, claim_wall(c, c->closed_after_boot));
	bind_time(p->add, 6, claim_wall(c, c->released_boot));
	bind_time(p->add, 7, 4096u + (usec_t)(c->protocol | c->role << 3 | c->attribution << 5));
	bind_time(p->add, 8, c->remote.port);
	(void)sqlite3_bind_blob(p->add, 9, c->remote.address.bytes,
		(int)address_size(&c->remote.address), SQLITE_STATIC);
	bind_time(p->add, 10, c->opener->store_id);
	return run(p->add);
}

static int commit(struct plain *p)
{
	if (run(p->commit) < 0)
		return -EIO;
	if (p->frames < CHECKPOINT_FRAMES)
		return 0;
	return sqlite3_wal_checkpoint_v2(p->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) ==
			       SQLITE_OK
		       ? 0
		       : -EIO;
}

static int write_all(const struct writing *w, struct plain *p, struct workload *load)
{
	struct meter m;
	struct claim claim;
	uint64_t written = 0;
	int r = meter_begin(&m, w);

	while (r == 0 && workload_next(load, &claim)) {
		if (written % w->batch == 0)
			r = run(p->begin);
		if (r == 0)
			r = add(p, &claim);
		claim_done(&claim);
		written++;
		if (r == 0 && (written % w->batch == 0 || written == w->claims)) {
			r = commit(p);
			meter_tick(&m, written);
		}
	}
	meter_end(&m, written);
	return r;
}

int write_plain(const struct writing *w)
{
	_cleanup_(workload_free_p) struct workload *load =
		workload_new(w->times, w->claims, w->span);
	struct plain p = {0};
	char path[4096];
	int r;

	if (!load)
		return -ENOMEM;
	snprintf(path, sizeof(path), "%s/plain.db", w->path);
	r = begin(&p, path);
	if (r == 0)
		r = write_all(w, &p, load);
	sqlite3_finalize(p.begin);
	sqlite3_finalize(p.commit);
	sqlite3_finalize(p.add);
	sqlite3_finalize(p.process);
	sqlite3_close(p.db);
	return r < 0 ? r : report_rows(path, SIZES_BY_TABLE);
}
