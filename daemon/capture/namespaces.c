/* SPDX-License-Identifier: MIT */

/*
 * A name is learnt while the namespace lives, and remembered when it is gone: whoever asks about last night does not find
 * it any more. `ip netns add` makes the namespace first and its file a moment later, so one without a name is looked for
 * again, ever more rarely. A unit is a name for want of a better one.
 */

#include "daemon/capture/namespaces.h"

#include "common/escape.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#define LOOK_AGAIN_USEC USEC_PER_SEC

struct space {
	struct netns netns; /* name owned */
	bool told;
	bool named;        /* by a file */
	uint64_t range_by; /* namespace_seen.by that said its range */
	usec_t look_after; /* boottime before which its file is not looked for again; USEC_UNSET: never */
	usec_t wait;       /* between two looks */
	UT_hash_handle hh; /* by netns.cookie, in the order of arrival */
};

struct namespaces {
	const char *directory; /* not owned */
	struct space *by_cookie;
};

struct namespaces *namespaces_new(const char *directory)
{
	struct namespaces *n = calloc(1, sizeof(*n));

	if (n)
		n->directory = directory;
	return n;
}

static void forget(struct namespaces *n, struct space *s)
{
	HASH_DEL(n->by_cookie, s);
	free(s->netns.name);
	free(s);
}

struct namespaces *namespaces_free(struct namespaces *n)
{
	struct space *s, *next;

	if (!n)
		return NULL;
	HASH_ITER (hh, n->by_cookie, s, next)
		forget(n, s);
	free(n);
	return NULL;
}

/* NULL: no memory. */
static struct space *add(struct namespaces *n, uint64_t cookie, uint64_t inode)
{
	struct space *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->netns = (struct netns){.cookie = cookie, .inode = inode};
	s->wait = LOOK_AGAIN_USEC;
	if (HASH_COUNT(n->by_cookie) >= LIMIT_NAMESPACES)
		forget(n, n->by_cookie);
	HASH_ADD(hh, n->by_cookie, netns.cookie, sizeof(s->netns.cookie), s);
	if (s->hh.tbl)
		return s;
	free(s);
	return NULL;
}

/* Replaces its name by a stored form (taken); without memory (NULL) it stays as it is. */
static void name(struct space *s, char *fresh)
{
	if (!fresh)
		return;
	s->told = s->told && streq_null(fresh, s->netns.name);
	free(s->netns.name);
	s->netns.name = fresh;
}

static void close_directory(DIR **d)
{
	if (*d)
		(void)closedir(*d);
}

/* Looks for the file that is the namespace. */
static void look_for_file(const struct namespaces *n, struct space *s)
{
	_cleanup_(close_directory) DIR *d = opendir(n->directory);
	struct dirent *item;
	struct stat status;

	while (d && !s->named && (item = readdir(d))) {
		if (item->d_name[0] == '.' || fstatat(dirfd(d), item->d_name, &status, 0) < 0 ||
			status.st_ino != s->netns.inode)
			continue;
		name(s, escape_store(item->d_name, strlen(item->d_name), LIMIT_STRING_BYTES));
		s->named = true;
	}
}

/* What a process was written down with is of its first moment: an older one's is not news. */
static void note_range(struct space *s, const struct namespace_seen *seen)
{
	struct port_range *known = &s->netns.ephemeral;

	if (seen->ephemeral.high == 0 || (seen->by != 0 && seen->by <= s->range_by))
		return;
	s->range_by = MAX(s->range_by, seen->by);
	if (known->low == seen->ephemeral.low && known->high == seen->ephemeral.high)
		return;
	*known = seen->ephemeral;
	s->told = false;
}

bool namespaces_see(
	struct namespaces *n, const struct namespace_seen *seen, usec_t now, struct netns *ret)
{
	struct space *s;

	HASH_FIND(hh, n->by_cookie, &seen->cookie, sizeof(seen->cookie), s);
	if (!s)
		s = add(n, seen->cookie, seen->inode);
	if (!s)
		return false;
	note_range(s, seen);
	if (!s->named && now >= s->look_after) {
		look_for_file(n, s);
		s->look_after = now + s->wait;
		s->wait *= 2;
	}
	if (!s->netns.name && seen->unit)
		name(s, strdup(seen->unit));
	if (s->told)
		return false;
	s->told = true;
	*ret = s->netns;
	return true;
}

void namespaces_each(const struct namespaces *n,
	void (*visit)(void *context, const struct netns *netns), void *context)
{
	for (const struct space *s = n->by_cookie; s; s = s->hh.next)
		visit(context, &s->netns);
}
