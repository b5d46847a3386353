/* SPDX-License-Identifier: MIT */

#include "client/users.h"

#include <pwd.h>
#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#include "client/number.h"

struct user {
	uint32_t uid;
	char *name; /* NULL: none */
	UT_hash_handle hh;
};

struct users {
	struct user *by_uid;
};

/* An entry of /etc/passwd is short; one from a directory service may carry more. */
#define ENTRY_BYTES 16384

struct users *users_new(void)
{
	return calloc(1, sizeof(struct users));
}

struct users *users_free(struct users *u)
{
	struct user *user, *next;

	if (!u)
		return NULL;
	HASH_ITER (hh, u->by_uid, user, next) {
		HASH_DEL(u->by_uid, user);
		free(user->name);
		free(user);
	}
	free(u);
	return NULL;
}

const char *users_name(struct users *u, uint32_t uid)
{
	struct passwd entry, *found = NULL;
	char buffer[ENTRY_BYTES];
	struct user *user;

	HASH_FIND(hh, u->by_uid, &uid, sizeof(uid), user);
	if (user)
		return user->name;

	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->uid = uid;
	if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found)
		user->name = strdup(found->pw_name);
	HASH_ADD(hh, u->by_uid, uid, sizeof(user->uid), user);
	if (user->hh.tbl)
		return user->name;
	free(user->name);
	free(user);
	return NULL;
}

int users_uid(const char *name, uint32_t *ret)
{
	struct passwd entry, *found = NULL;
	char buffer[ENTRY_BYTES];
	uint64_t number;

	if (getpwnam_r(name, &entry, buffer, sizeof(buffer), &found) == 0 && found) {
		*ret = found->pw_uid;
		return 0;
	}
	if (number_parse(name, 0, UINT32_MAX - 1, &number) < 0)
		return -ENOENT;
	*ret = (uint32_t)number;
	return 0;
}
