/* SPDX-License-Identifier: MIT */

/*
 * The disk does not do as it should: full, read-only, failing, taken away, or with a damaged database on it. Nothing of that ends
 * the recording for good, and nothing of it needs an operator to come to an end: each state is looked at anew every second, is in
 * `status` as long as it lasts, and is said in the log when it begins and when it is over. Decision 0025.
 */

#include "daemon/ledger/keeper_private.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/buf.h"
#include "common/log.h"
#include "daemon/ledger/ballast.h"
#include "daemon/schema.h"

#define LOOK_USEC (10 * USEC_PER_SEC) /* at what is as it should be */
/* Only a reader that stays keeps the WAL from being moved when it is a fraction of this. */
#define WAL_LARGE_BYTES (UINT64_C(64) << 20)

static const char *remedy(int error)
{
	switch (error) {
	case -ENOSPC:
	case -EDQUOT:
		return "make room, or lower MaxBytes=";
	case -EROFS:
		return "mount the file system for writing";
	case -EIO:
		return "look for the disk in the kernel's log";
	case -EBUSY:
		return "end who else writes to it: fuser " SCHEMA_FILE;
	case -EACCES:
	case -EPERM:
		return "give the state directory to the user that the daemon runs as";
	case -EEXIST:
		return "remove what is called lock or heartbeat beside it and is no file";
	default: /* an open-ended set that is not ours */
		return "the log says more";
	}
}

/* A reason more. */
#define add(text, ...)                                                                             \
	(buf_size(text) > 0 ? buf_append_string(text, DEGRADED_BETWEEN) : 0) == 0                  \
		? buf_append_format(text, __VA_ARGS__)                                             \
		: -ENOMEM

static int add_reasons(const struct keeper *k, struct buf *text)
{
	uint64_t wal = k->store ? store_stats(k->store).wal_bytes : 0;
	unsigned long long waiting = k->batch ? batch_stats(k->batch).waiting : 0;
	int r = 0;

	if (k->open_error != 0)
		r = add(text,
			"nothing is recorded yet, the database cannot be opened (%s); it is tried "
			"again every second; %s",
			strerror(-k->open_error), remedy(k->open_error));
	if (r == 0 && k->store_error != 0)
		r = add(text, "the database refuses writes (%s); %llu closed claim%s in memory; %s",
			strerror(-k->store_error), waiting, waiting == 1 ? " waits" : "s wait",
			remedy(k->store_error));
	if (r == 0 && k->ballast_error == -ENOSPC)
		r = add(text,
			"less than %u MiB are free where the database is, and there is no reserve; "
			"make room, or lower MaxBytes=",
			(unsigned)(2 * BALLAST_BYTES >> 20));
	if (r == 0 && k->aside > 0)
		r = add(text,
			"%u damaged database%s kept aside, what is there is in no answer; recover it "
			"and remove " SCHEMA_FILE ".damaged-*",
			k->aside, k->aside == 1 ? " is" : "s are");
	if (r == 0 && wal > WAL_LARGE_BYTES)
		r = add(text,
			"somebody reads the database and does not end, %llu MiB wait to be moved "
			"into it; end the reader: fuser " SCHEMA_FILE,
			(unsigned long long)(wal >> 20));
	if (r == 0 && k->obstacle)
		r = add(text, DEGRADED_OBSTACLE "%s", k->obstacle);
	return r;
}

char *keeper_degraded(const struct keeper *k)
{
	_cleanup_(buf_done) struct buf text = {0};

	if (add_reasons(k, &text) < 0 || buf_size(&text) == 0)
		return NULL;
	return strndup((const char *)buf_bytes(&text), buf_size(&text));
}

static void set_ballast(struct keeper *k, int error)
{
	int before = k->ballast_error;

	k->ballast_error = error;
	if (error == -ENOSPC && before != -ENOSPC)
		log_event(LOG_EVENT_DISK_LOW, LOG_NO_FIELDS,
			"there is no reserve on the disk: less than %u MiB are free",
			(unsigned)(2 * BALLAST_BYTES >> 20));
	else if (error == 0 && before == -ENOSPC)
		log_event(LOG_EVENT_DISK_ROOM, LOG_NO_FIELDS, "the disk has room again");
}

/* It is the disk that is full, not the database that is as large as it may be. */
static bool is_disk_full(const struct keeper *k)
{
	struct statvfs fs;

	return fstatvfs(k->options->state_fd, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * fs.f_frsize < BALLAST_BYTES;
}

bool keeper_makes_room(struct keeper *k)
{
	if (!is_disk_full(k) || !ballast_release(k->options->state_fd))
		return false;
	set_ballast(k, -ENOSPC);
	return true;
}

bool keeper_sets_aside(struct keeper *k)
{
	unsigned number;
	int32_t holder = 0;
	int r;

	keeper_close_books(k);
	r = store_set_aside(k->options->state_fd, &number, &holder);
	if (r < 0) {
		log_event(LOG_EVENT_DATABASE_DAMAGED, LOG_NO_FIELDS,
			"%s in the state directory is damaged or no database, and cannot be set "
			"aside (%s): move it away, with its -wal and -shm, to begin a new one",
			SCHEMA_FILE, r == -EEXIST ? "too many are" : strerror(-r));
		return false;
	}
	log_event(LOG_EVENT_DATABASE_DAMAGED, LOG_FIELDS(LOG_NUMBER("NUMBER", number)),
		"%s is damaged or no database: it is now %s.damaged-%u, and a new one begins",
		SCHEMA_FILE, SCHEMA_FILE, number);
	k->aside = store_count_aside(k->options->state_fd);
	return true;
}

bool keeper_may_pass(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -EROFS || error == -EIO ||
	       error == -EBUSY || error == -EACCES || error == -EMFILE || error == -ENFILE ||
	       error == -EEXIST;
}

bool keeper_waits(struct keeper *k, int error, const struct hello *hello)
{
	struct record waits = {.type = RECORD_WAITS};
	char *version;

	if (k->options->replaying || !keeper_may_pass(error))
		return false;
	keeper_close_books(k);
	if (k->open_error == 0) { /* the first time */
		version = strdup(hello->version);
		if (!version || channel_put(k->capture, &waits) < 0) {
			free(version);
			return false;
		}
		k->hello = *hello;
		k->hello.version = version;
		set_ballast(k, ballast_hold(k->options->state_fd));
	}
	if (k->open_error != error)
		log_event(LOG_EVENT_DATABASE_REFUSES,
			LOG_FIELDS(LOG_NUMBER("ERRNO", (uint64_t)-error)),
			"cannot open the database, and try on: %s", strerror(-error));
	k->open_error = error;
	return true;
}

int keeper_tries_again(struct keeper *k)
{
	int r = keeper_start_session(k, &k->hello);

	if (r < 0)
		return keeper_waits(k, r, &k->hello) ? 0 : r;
	k->open_error = 0;
	log_event(LOG_EVENT_DATABASE_ACCEPTS, LOG_NO_FIELDS, "the database is open");
	return 0;
}

/* Is the directory still what the path names? Where that cannot be told, it is. */
static bool is_directory_there(struct keeper *k)
{
	struct stat ours, named;

	if (fstat(k->options->state_fd, &ours) < 0)
		return true;
	if (ours.st_nlink == 0)
		return false;
	if (stat(k->options->state_path, &named) < 0)
		return errno != ENOENT || !k->path_was_right;
	if (ours.st_dev == named.st_dev && ours.st_ino == named.st_ino) {
		k->path_was_right = true;
		return true;
	}
	return !k->path_was_right;
}

void keeper_looks_first(struct keeper *k)
{
	(void)is_directory_there(k);
	k->aside = store_count_aside(k->options->state_fd);
	set_ballast(k, ballast_hold(k->options->state_fd));
}

bool keeper_looks_after(struct keeper *k, usec_t now)
{
	if (!is_directory_there(k) || !store_is_there(k->store, k->options->state_fd)) {
		log_event(LOG_EVENT_DATABASE_GONE, LOG_NO_FIELDS,
			"%s is not in %s any more: a new one begins", SCHEMA_FILE,
			k->options->state_path);
		return false;
	}
	if (now < k->look_next && k->ballast_error == 0)
		return true;
	k->look_next = now + LOOK_USEC;
	k->aside = store_count_aside(k->options->state_fd);
	if (k->store_error == 0 || k->ballast_error != 0)
		set_ballast(k, ballast_hold(k->options->state_fd));
	return true;
}
