/* SPDX-License-Identifier: MIT */

/*
 * The words of --forget, and what is said of what it did. A user that has no entry any more is given by number; a name goes
 * before a number that looks the same, as in portledger(1).
 */

#include "daemon/forget.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>

#include "common/log.h"
#include "common/when.h"
#include "daemon/ledger/keeper.h"
#include "daemon/ledger/store.h"

#define EXIT_USAGE 2
#define PREFIX     "uid:"

static bool parse_uid(const char *text, uint32_t *ret)
{
	const struct passwd *entry = getpwnam(text);
	unsigned long long number;
	char *end;

	if (entry) {
		*ret = entry->pw_uid;
		return true;
	}
	errno = 0;
	number = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || number >= UINT32_MAX)
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool parse_time(const char *option, const char *text, usec_t now, usec_t *ret)
{
	if (!text || when_parse_moment(text, now, ret) == 0)
		return true;
	log_error("%s wants a time, such as 2026-11-26 03:12, not '%s'", option, text);
	return false;
}

static bool parse(const struct forget_words *words, usec_t now, struct forget *ret)
{
	struct forget what = {.user = words->user != NULL, .until = USEC_UNSET};

	if (!words->since != !words->until) {
		log_error("--forget-since and --forget-until want each other");
		return false;
	}
	if (what.user && (strncmp(words->user, PREFIX, strlen(PREFIX)) != 0 ||
				 !parse_uid(words->user + strlen(PREFIX), &what.uid))) {
		log_error("--forget wants uid:NAME or uid:NUMBER, not '%s'", words->user);
		return false;
	}
	if (!parse_time("--forget-since", words->since, now, &what.from) ||
		!parse_time("--forget-until", words->until, now, &what.until))
		return false;
	if (what.from >= what.until) {
		log_error("--forget-since is not before --forget-until");
		return false;
	}
	*ret = what;
	return true;
}

static int say_refusal(int error, const char *state, int32_t holder)
{
	switch (error) {
	case -EAGAIN:
		log_error("a daemon (pid %d) has %s: stop it first, with its socket", (int)holder,
			state);
		return KEEPER_EXIT_LOCKED;
	case -EPROTO:
		log_error(
			"the database in %s is of a newer portledger or another program: untouched",
			state);
		return KEEPER_EXIT_SCHEMA;
	case -EUCLEAN:
		log_error("the database in %s is damaged, or none", state);
		return KEEPER_EXIT_DAMAGED;
	case -EEXIST:
		log_error("what is called lock in %s is no file: remove it", state);
		return EXIT_FAILURE;
	case -ENOENT:
		log_error("there is no database in %s", state);
		return EXIT_FAILURE;
	case -EBUSY:
		log_error("somebody reads the database in %s: what went may still be in its files; "
			  "do it again when nobody does",
			state);
		return EXIT_FAILURE;
	default:
		log_error("cannot erase in %s: %s", state, strerror(-error));
		return EXIT_FAILURE;
	}
}

int forget_run(const struct forget_words *words, const char *state, usec_t now)
{
	_cleanup_(close_p) int fd = -1;
	struct forget what;
	uint64_t rows = 0;
	int32_t holder = 0;
	int r;

	if (!parse(words, now, &what))
		return EXIT_USAGE;
	fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : store_forget(fd, &what, &rows, &holder);
	if (r < 0)
		return say_refusal(r, state, holder);
	printf("%llu row%s erased\n", (unsigned long long)rows, rows == 1 ? "" : "s");
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
