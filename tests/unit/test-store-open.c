/* SPDX-License-Identifier: MIT */

/* Opening, refusing, dying and being read by others. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#include "tests/support/store_fixture.h"

/* Whoever changes the directory is killed after so many changes of it. */
static unsigned changes_left = UINT_MAX;

static bool is_killed(void)
{
	if (changes_left == UINT_MAX)
		return false;
	errno = EIO;
	if (changes_left == 0)
		return true;
	changes_left--;
	return false;
}

int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return is_killed() ? -1 : __real_renameat(from_fd, from, to_fd, to);
}

int __real_unlinkat(int fd, const char *name, int flags);
int __wrap_unlinkat(int fd, const char *name, int flags);
int __wrap_unlinkat(int fd, const char *name, int flags)
{
	return is_killed() ? -1 : __real_unlinkat(fd, name, flags);
}

static void put(struct fixture *f, uint16_t port)
{
	struct claim c = fixture_claim(f, port);

	assert_int_equal(store_put_released(f->store, &c), 0);
}

static void assert_version(const struct fixture *f, int version)
{
	char expected[16];

	snprintf(expected, sizeof(expected), "%d|\n", version);
	assert_rows(f, "PRAGMA user_version", expected);
}

static void test_modes(void **state)
{
	static const char *const names[] = {
		SCHEMA_FILE, SCHEMA_FILE "-wal", SCHEMA_FILE "-shm", LOCK_FILE, HEARTBEAT_FILE};
	struct fixture *f = *state;

	for (int round = 0; round < 2; round++) {
		mode_t mask = round == 0 ? 0 : 0777;

		(void)umask(mask);
		fixture_open(f);
		put(f, 50000);
		commit(f);
		(void)umask(0);
		for (size_t i = 0; i < ELEMENTSOF(names); i++) {
			struct stat st;

			assert_int_equal(fstatat(f->dir, names[i], &st, 0), 0);
			assert_int_equal(st.st_mode & 07777, 0640);
		}
		fixture_done(f);
		fixture_init(f);
	}
}

static void test_two_daemons(void **state)
{
	struct fixture *f = *state;
	struct store *other = NULL;
	struct store_session before;
	int32_t pid = 0;

	fixture_open(f);
	assert_int_equal(
		store_open(f->dir, f->boot_id, f->now, "2", &other, &before, &pid), -EAGAIN);
	assert_null(other);
	assert_int_equal(pid, getpid());
	put(f, 50000);
	commit(f);
	f->store = store_free(f->store);
	fixture_open(f);
}

/* Who holds the lock is said where it can be told; that somebody does is said in any case. */
static void test_unnamed_holder(void **state)
{
	static const struct {
		const char *text;
		int32_t pid;
	} cases[] = {{"", 0}, {"x\n", 0}, {"-4\n", 0}, {"4294967296\n", 0}, {"77\n", 77}};
	struct fixture *f = *state;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	_cleanup_(close_p) int fd = openat(f->dir, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct store *other = NULL;
		struct store_session before;
		int32_t pid = -1;

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(
			pwrite(fd, cases[i].text, strlen(cases[i].text), 0), strlen(cases[i].text));
		assert_int_equal(store_open(f->dir, f->boot_id, f->now, "2", &other, &before, &pid),
			-EAGAIN);
		assert_int_equal(pid, cases[i].pid);
	}
}

/* Something else has the name of a file of ours: it is not touched. */
static void test_names_taken(void **state)
{
	static const char *const names[] = {LOCK_FILE, HEARTBEAT_FILE, SCHEMA_FILE};
	struct fixture *f = *state;

	assert_int_equal(symlinkat("nowhere", f->dir, LOCK_FILE), 0);
	assert_int_equal(fixture_try_open(f), -EEXIST);
	assert_int_equal(unlinkat(f->dir, LOCK_FILE, 0), 0);
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		int error = i < 2 ? -EEXIST : -EUCLEAN;

		(void)unlinkat(f->dir, names[i], 0);
		assert_int_equal(mkdirat(f->dir, names[i], 0700), 0);
		assert_int_equal(fixture_try_open(f), error);
		assert_int_equal(unlinkat(f->dir, names[i], AT_REMOVEDIR), 0);
		assert_int_equal(mkfifoat(f->dir, names[i], 0600), 0);
		assert_int_equal(fixture_try_open(f), error);
		assert_int_equal(unlinkat(f->dir, names[i], 0), 0);
	}
	close(f->dir);
	f->dir = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* makes no files */
	assert_true(fixture_try_open(f) < 0);
	close(f->dir);
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fixture_open(f);
}

/* Where there is no database none is made, to forget something in it; what is no heartbeat of ours says nothing. */
static void test_nothing_there(void **state)
{
	const struct forget all = {.until = USEC_UNSET};
	struct fixture *f = *state;
	struct heartbeat beat = {.session = 1, .seen = f->now};
	_cleanup_(close_p) int fd = -1;
	uint64_t rows = 77;
	int32_t pid = 0;

	assert_int_equal(store_forget(f->dir, &all, &rows, &pid), -ENOENT);
	assert_int_equal(rows, 77);
	assert_int_equal(faccessat(f->dir, SCHEMA_FILE, F_OK, 0), -1);
	fd = openat(f->dir, HEARTBEAT_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	assert_int_equal(heartbeat_write(fd, &beat), 0);
	assert_int_equal(heartbeat_read(fd, &beat), 1);
	assert_int_equal(pwrite(fd, "X", 1, 0), 1);
	assert_int_equal(heartbeat_read(fd, &beat), 0);
}

/* A file system that has no shared memory, which a WAL needs. */
static void test_no_shared_memory(void **state)
{
	struct fixture *f = *state;
	sqlite3_vfs *usual = sqlite3_vfs_find(NULL), *without = sqlite3_vfs_find("unix-none");

	assert_true(usual && without);
	assert_int_equal(sqlite3_vfs_register(without, 1), SQLITE_OK);
	assert_int_equal(fixture_try_open(f), -EIO);
	assert_null(f->store);
	assert_int_equal(sqlite3_vfs_register(usual, 1), SQLITE_OK);
	fixture_open(f);
	put(f, 50000);
	commit(f);
	assert_rows(f, "SELECT port FROM claims", "50000|\n");
}

/* A connection to the database that is not the store's. Its file is made with the mode of umask. */
static sqlite3 *other_program(const struct fixture *f, const char *name, const char *sql)
{
	char path[160];
	sqlite3 *db = NULL;
	char *error = NULL;

	snprintf(path, sizeof(path), "%s/%s", f->path, name);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s", error);
	return db;
}

static void copy_file(const struct fixture *f, const char *from, const char *to)
{
	char data[65536];
	int in = openat(f->dir, from, O_RDONLY | O_CLOEXEC);
	int out = openat(f->dir, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, data, sizeof(data))) > 0)
		assert_int_equal(write(out, data, (size_t)n), n);
	close(in);
	close(out);
}

static void write_file(const struct fixture *f, const char *name, const void *data, size_t size)
{
	int fd = openat(f->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

/* Every file but the lock, with its bytes and its time. */
static void snapshot(const struct fixture *f, struct buf *b)
{
	static const char *const names[] = {SCHEMA_FILE, SCHEMA_FILE "-wal", SCHEMA_FILE "-shm",
		SCHEMA_FILE "-journal", HEARTBEAT_FILE};
	uint8_t data[65536];
	ssize_t n;

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		struct stat st;
		int fd = openat(f->dir, names[i], O_RDONLY | O_CLOEXEC);

		assert_int_equal(buf_append_string(b, names[i]), 0);
		if (fd < 0)
			continue;
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(buf_append(b, &st.st_mtim, sizeof(st.st_mtim)), 0);
		while ((n = read(fd, data, sizeof(data))) > 0)
			assert_int_equal(buf_append(b, data, (size_t)n), 0);
		close(fd);
	}
}

static void assert_refused(struct fixture *f, int error)
{
	struct buf before = {0}, after = {0};

	snapshot(f, &before);
	assert_int_equal(fixture_try_open(f), error);
	assert_null(f->store);
	snapshot(f, &after);
	assert_int_equal(buf_size(&before), buf_size(&after));
	assert_memory_equal(buf_bytes(&before), buf_bytes(&after), buf_size(&before));
	buf_done(&before);
	buf_done(&after);
}

/* Puts what a killed program leaves of `db` (its files as they are now) in place of the database. */
static void leave_killed(struct fixture *f, sqlite3 *db, bool with_shm)
{
	copy_file(f, "x", SCHEMA_FILE);
	copy_file(f, "x-wal", SCHEMA_FILE "-wal");
	if (with_shm)
		copy_file(f, "x-shm", SCHEMA_FILE "-shm");
	sqlite3_close(db);
}

#define NEWER_VERSION "PRAGMA user_version=99"
#define OURS          "PRAGMA application_id=0x504C4447;"

static void test_newer_in_main_file(void **state)
{
	struct fixture *f = *state;

	fixture_open(f);
	put(f, 50000);
	commit(f);
	assert_int_equal(store_stop(f->store, f->now), 0);
	f->store = store_free(f->store);
	sqlite3_close(other_program(f, SCHEMA_FILE, "PRAGMA journal_mode=DELETE; " NEWER_VERSION));
	assert_refused(f, -EPROTO);
}

/* A newer program was killed right after it migrated: only the WAL tells. */
static void test_newer_in_wal(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db = other_program(f, "x",
		"PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x);" OURS
		"PRAGMA user_version=1; PRAGMA wal_checkpoint(TRUNCATE); " NEWER_VERSION
		";INSERT INTO t VALUES(1)");

	leave_killed(f, db, false);
	assert_refused(f, -EPROTO);
}

/* Changes the byte at an offset. */
static void damage(const struct fixture *f, const char *name, off_t at)
{
	int fd = openat(f->dir, name, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0xff;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

/* A migration whose commit frame is damaged is none: what recovery would drop is not believed. */
static void test_torn_migration(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db;
	struct stat st;

	fixture_open(f);
	put(f, 50000);
	commit(f);
	assert_int_equal(store_stop(f->store, f->now), 0);
	f->store = store_free(f->store);
	copy_file(f, SCHEMA_FILE, "x");
	db = other_program(f, "x", "PRAGMA wal_autocheckpoint=0; " NEWER_VERSION);
	leave_killed(f, db, true);
	assert_refused(f, -EPROTO);
	assert_int_equal(fstatat(f->dir, SCHEMA_FILE "-wal", &st, 0), 0);
	assert_int_equal(unlinkat(f->dir, SCHEMA_FILE "-shm", 0), 0);
	damage(f, SCHEMA_FILE "-wal", st.st_size - 1);
	fixture_open(f);
	assert_rows(f, "SELECT port FROM claims", "50000|\n");
	assert_version(f, SCHEMA_VERSION);
}

/* A checkpoint lost its power in the first page. The WAL has it once more, and is not begun anew before that is on the disk. */
static void test_torn_checkpoint(void **state)
{
	struct fixture *f = *state;

	fixture_open(f);
	put(f, 50000);
	commit(f);
	copy_file(f, SCHEMA_FILE "-wal", "x-wal");
	assert_int_equal(store_stop(f->store, f->now), 0);
	f->store = store_free(f->store);
	for (off_t at = 0; at < 100; at++)
		damage(f, SCHEMA_FILE, at);
	copy_file(f, "x-wal", SCHEMA_FILE "-wal");
	fixture_open(f);
	assert_rows(f, "SELECT port FROM claims", "50000|\n");
	assert_rows(f, "PRAGMA integrity_check", "ok|\n");
	f->store = store_free(f->store);
	/* without it, nothing is known of the file */
	for (off_t at = 0; at < 100; at++)
		damage(f, SCHEMA_FILE, at);
	assert_int_equal(unlinkat(f->dir, SCHEMA_FILE "-wal", 0), 0);
	assert_int_equal(unlinkat(f->dir, SCHEMA_FILE "-shm", 0), 0);
	assert_refused(f, -EUCLEAN);
}

static void test_foreign(void **state)
{
	static const char *const programs[] = {
		"CREATE TABLE t(x)",
		"PRAGMA application_id=77",
		"PRAGMA application_id=77; CREATE TABLE t(x); PRAGMA user_version=1",
		"PRAGMA user_version=1",
		OURS "PRAGMA user_version=-1",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ELEMENTSOF(programs); i++) {
		sqlite3_close(other_program(f, SCHEMA_FILE, programs[i]));
		assert_refused(f, -EPROTO);
		assert_int_equal(unlinkat(f->dir, SCHEMA_FILE, 0), 0);
	}
	leave_killed(f, other_program(f, "x", "PRAGMA journal_mode=WAL; CREATE TABLE t(x)"), true);
	assert_refused(f, -EPROTO);
}

static void test_garbage(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8192];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)fixture_random(f, 256);
	write_file(f, SCHEMA_FILE, data, sizeof(data));
	assert_refused(f, -EUCLEAN);
	write_file(f, SCHEMA_FILE, "x", 1);
	assert_refused(f, -EUCLEAN);
	assert_int_equal(unlinkat(f->dir, SCHEMA_FILE, 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", f->dir, SCHEMA_FILE), 0);
	assert_int_equal(fixture_try_open(f), -EUCLEAN);
	assert_int_equal(unlinkat(f->dir, SCHEMA_FILE, 0), 0);
	assert_int_equal(mkdirat(f->dir, SCHEMA_FILE, 0700), 0);
	assert_int_equal(fixture_try_open(f), -EUCLEAN);
	assert_int_equal(unlinkat(f->dir, SCHEMA_FILE, AT_REMOVEDIR), 0);
	/* an empty file is a database that is not made yet, and a WAL beside it is not its own */
	write_file(f, SCHEMA_FILE, "", 0);
	write_file(f, SCHEMA_FILE "-wal", data, sizeof(data));
	fixture_open(f);
	put(f, 50000);
	commit(f);
	assert_rows(f, "SELECT port FROM claims", "50000|\n");
}

/* Pages that were overwritten: an error, not a crash. */
static void test_damaged(void **state)
{
	struct fixture *f = *state;
	uint8_t zero[4096] = {0};
	int fd;

	fixture_open(f);
	for (uint16_t i = 0; i < 1000; i++)
		put(f, (uint16_t)(50000 + i));
	commit(f);
	assert_int_equal(store_stop(f->store, f->now), 0);
	f->store = store_free(f->store);
	fd = openat(f->dir, SCHEMA_FILE, O_RDWR | O_CLOEXEC);
	for (off_t page = 1; page < 8; page++)
		assert_int_equal(pwrite(fd, zero, sizeof(zero), page * 4096), sizeof(zero));
	close(fd);
	assert_int_equal(fixture_try_open(f), -EUCLEAN);
	assert_null(f->store);
}

static int64_t rows_in(const struct fixture *f, const char *name)
{
	char path[PATH_MAX];
	sqlite3 *db = NULL;
	sqlite3_stmt *row = NULL;
	int64_t rows;

	(void)snprintf(path, sizeof(path), "%s/%s", f->path, name);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	assert_int_equal(
		sqlite3_prepare_v2(db, "SELECT count(*) FROM claims", -1, &row, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(row), SQLITE_ROW);
	rows = sqlite3_column_int64(row, 0);
	sqlite3_finalize(row);
	sqlite3_close(db);
	return rows;
}

/* A database of which all rows are in its WAL: without that, it is whole and empty. */
static void leave_in_wal(struct fixture *f)
{
	fixture_open(f);
	commit(f);
	assert_int_equal(store_stop(f->store, f->now), 0);
	f->store = store_free(f->store);
	assert_int_equal(fixture_try_open(f), 0);
	for (uint16_t i = 0; i < 100; i++)
		put(f, (uint16_t)(50000 + i));
	commit(f);
	f->store->accepted = false; /* killed: nobody tidies up */
	f->store = store_free(f->store);
}

/* Setting a database aside is killed after each of its steps. The next one has all of it, where it was or aside, never a part. */
static void test_set_aside_is_killed(void **state)
{
	struct fixture *f = *state;
	unsigned number, step, moved = 0;
	int32_t pid;
	bool done = false;

	for (step = 0; !done; step++) {
		leave_in_wal(f);
		changes_left = step;
		done = store_set_aside(f->dir, &number, &pid) == 0;
		changes_left = UINT_MAX;
		fixture_open(f);
		commit(f);
		f->store = store_free(f->store);
		if (faccessat(f->dir, SCHEMA_FILE ".damaged-1", F_OK, 0) == 0) {
			assert_int_equal(rows_in(f, SCHEMA_FILE), 0);
			assert_int_equal(rows_in(f, SCHEMA_FILE ".damaged-1"), 100);
			assert_int_equal(store_count_aside(f->dir), 1);
			moved++;
		} else {
			assert_int_equal(rows_in(f, SCHEMA_FILE), 100);
			assert_int_equal(store_count_aside(f->dir), 0);
		}
		fixture_done(f);
		fixture_init(f);
	}
	assert_int_equal(step, 4); /* after none of three steps, one, two, and all */
	assert_int_equal(moved, 2);
}

/* The child commits, writes on and is killed in its transaction. */
static void test_killed(void **state)
{
	struct fixture *f = *state;

	for (unsigned round = 1; round <= 5; round++) {
		char expected[64], byte;
		int pipes[2], status;
		pid_t child;

		assert_int_equal(pipe(pipes), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			if (fixture_try_open(f) < 0)
				_exit(1);
			for (uint16_t i = 0; i < 700; i++) {
				put(f, (uint16_t)(50000 + i));
				if (i == 499 &&
					(store_commit(f->store, f->now, round % 2 == 0) < 0 ||
						write(pipes[1], "c", 1) != 1))
					_exit(2);
			}
			(void)sqlite3_db_cacheflush(f->store->db); /* frames without a commit */
			if (write(pipes[1], "p", 1) == 1)
				for (;;)
					pause();
			_exit(3);
		}
		close(pipes[1]);
		assert_int_equal(read(pipes[0], &byte, 1), 1);
		assert_int_equal(read(pipes[0], &byte, 1), 1);
		assert_int_equal(byte, 'p');
		assert_int_equal(kill(child, SIGKILL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
		close(pipes[0]);
		snprintf(expected, sizeof(expected), "%u|\n", round * 500);
		assert_rows(
			f, "SELECT count(*) FROM claims", expected); /* a reader needs no daemon */
		fixture_open(f);
		assert_rows(f, "PRAGMA integrity_check", "ok|\n");
		assert_rows(f, "SELECT count(*) FROM claims", expected);
		snprintf(expected, sizeof(expected), "1|%u|\n", round * 500);
		assert_rows(f, "SELECT min(id),max(id) FROM claim_hot", expected);
		f->store = store_free(f->store);
	}
}

/* What `sqlite3 -readonly` of another process prints. */
static void assert_shell(const struct fixture *f, const char *sql, const char *expected)
{
	char command[512], output[256] = "";
	FILE *shell;
	size_t size;

	snprintf(command, sizeof(command), "sqlite3 -readonly %s/%s \"%s\"", f->path, SCHEMA_FILE,
		sql);
	shell = popen(command, "re");
	assert_non_null(shell);
	size = fread(output, 1, sizeof(output) - 1, shell);
	assert_true(size < sizeof(output));
	assert_int_equal(pclose(shell), 0);
	assert_string_equal(output, expected);
}

static void test_readers(void **state)
{
	struct fixture *f = *state;
	bool shell = system("command -v sqlite3 >/dev/null") == 0;
	static const char sql[] = "SELECT port,comm FROM claims WHERE port=50000";
	struct claim c;

	fixture_open(f);
	c = fixture_claim(f, 50000);
	c.opener = fixture_process(5, "curl");
	assert_int_equal(store_put_released(f->store, &c), 0);
	commit(f);
	process_unref(c.opener);
	assert_rows(f, sql, "50000|curl|\n");
	if (shell)
		assert_shell(f, sql, "50000|curl\n");
	assert_int_equal(store_stop(f->store, f->now), 0);
	assert_rows(f, sql, "50000|curl|\n");
	f->store = store_free(f->store);
	assert_int_equal(faccessat(f->dir, SCHEMA_FILE "-wal", F_OK, 0), 0);
	assert_int_equal(faccessat(f->dir, SCHEMA_FILE "-shm", F_OK, 0), 0);
	assert_rows(f, sql, "50000|curl|\n");
	if (shell)
		assert_shell(f, sql, "50000|curl\n");
	else
		print_message("no sqlite3 shell: read through the library only\n");
}

/* A later program's steps: each once, in its own transaction; one that fails leaves the version before it. */
static void test_migration(void **state)
{
	enum { NEW = SCHEMA_VERSION + 1, NEWER, NEWEST };
	static const struct schema_step bad[] = {
		{0, SCHEMA_VERSION, "never run"},
		{NEW, NEWER, "CREATE TABLE three(x); CREATE TABLE three(x)"},
		{SCHEMA_VERSION, NEW, "CREATE TABLE two(x)"},
	};
	static const struct schema_step good[] = {
		{0, NEWEST, "never run"},
		{SCHEMA_VERSION, NEW, "never run again"},
		{NEW, NEWER, "CREATE TABLE three(x); ALTER TABLE gap ADD COLUMN more INT"},
	};
	struct fixture *f = *state;

	fixture_open(f);
	put(f, 50000);
	commit(f);
	assert_version(f, SCHEMA_VERSION);
	assert_int_equal(schema_migrate(f->store, bad, ELEMENTSOF(bad)), -EIO);
	assert_version(f, NEW);
	assert_rows(f, "SELECT name FROM sqlite_schema WHERE name IN ('two','three')", "two|\n");
	assert_int_equal(schema_migrate(f->store, good, ELEMENTSOF(good)), 0);
	assert_version(f, NEWER);
	assert_rows(f, "SELECT port FROM claims", "50000|\n");
	assert_rows(f, "SELECT count(*) FROM sqlite_schema WHERE type='view'", "6|\n");
	f->store = store_free(f->store);
	assert_refused(f, -EPROTO);
}

static void test_pragmas(void **state)
{
	static const struct {
		const char *pragma;
		int64_t value;
	} cases[] = {
		{"page_size", 2048},
		{"auto_vacuum", 2},
		{"application_id", SCHEMA_APPLICATION_ID},
		{"user_version", SCHEMA_VERSION},
		{"synchronous", 2},
		{"wal_autocheckpoint", 0},
		{"journal_size_limit", 16777216},
		{"trusted_schema", 0},
		{"cell_size_check", 1},
		{"secure_delete", 0},
		{"temp_store", 2},
		{"cache_size", -8192},
	};
	struct fixture *f = *state;

	fixture_open(f);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		char sql[64];
		sqlite3_stmt *row = NULL;

		snprintf(sql, sizeof(sql), "PRAGMA %s", cases[i].pragma);
		assert_int_equal(sqlite3_prepare_v2(f->store->db, sql, -1, &row, NULL), SQLITE_OK);
		assert_int_equal(sqlite3_step(row), SQLITE_ROW);
		assert_int_equal(sqlite3_column_int64(row, 0), cases[i].value);
		sqlite3_finalize(row);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_modes),
		CASE(test_two_daemons),
		CASE(test_unnamed_holder),
		CASE(test_names_taken),
		CASE(test_nothing_there),
		CASE(test_no_shared_memory),
		CASE(test_newer_in_main_file),
		CASE(test_newer_in_wal),
		CASE(test_torn_migration),
		CASE(test_torn_checkpoint),
		CASE(test_foreign),
		CASE(test_garbage),
		CASE(test_damaged),
		CASE(test_set_aside_is_killed),
		CASE(test_killed),
		CASE(test_readers),
		CASE(test_migration),
		CASE(test_pragmas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
