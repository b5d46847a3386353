/* SPDX-License-Identifier: MIT */

/*
 * unit_of_cgroup() reads a path as libsystemd does, so that a socket that is known only by its cgroup's id gets the
 * same unit as one whose process is known: past the slices, the first unit is it, and what lies below belongs to the
 * unit (a container's own tree). Only below user@UID.service is it the user manager's unit. Other than libsystemd, a
 * path of slices alone gives the innermost slice.
 */

#include "daemon/capture/unit.h"

#include "common/limits.h"

#include <systemd/sd-login.h>

#define HASH_NONFATAL_OOM 1 /* what could not be added has no hh.tbl */
#include <uthash.h>

#define UNIT_NAME_MAX 255 /* systemd.unit(5) */

struct unit_entry {
	char *cgroup, *unit; /* owned; unit NULL: none */
	UT_hash_handle hh;   /* by cgroup, in the order of arrival */
};

struct units {
	struct unit_entry *by_cgroup;
};

static struct unit_entry *unit_entry_free(struct unit_entry *e)
{
	if (e) {
		free(e->cgroup);
		free(e->unit);
		free(e);
	}
	return NULL;
}
DEFINE_CLEANUP(struct unit_entry, unit_entry_free)

struct units *units_new(void)
{
	return calloc(1, sizeof(struct units));
}

struct units *units_free(struct units *u)
{
	struct unit_entry *e, *next;

	if (!u)
		return NULL;
	HASH_ITER (hh, u->by_cgroup, e, next) {
		HASH_DEL(u->by_cgroup, e);
		unit_entry_free(e);
	}
	free(u);
	return NULL;
}

bool units_get(struct units *u, const char *cgroup, const char **ret_unit)
{
	struct unit_entry *e;

	HASH_FIND_STR(u->by_cgroup, cgroup, e);
	if (!e)
		return false;
	*ret_unit = e->unit;
	return true;
}

int units_put(struct units *u, const char *cgroup, const char *unit)
{
	_cleanup_(unit_entry_free_p) struct unit_entry *e = calloc(1, sizeof(*e));
	struct unit_entry *oldest = u->by_cgroup;

	if (!e)
		return -ENOMEM;
	e->cgroup = strdup(cgroup);
	e->unit = unit ? strdup(unit) : NULL;
	if (!e->cgroup || (unit && !e->unit))
		return -ENOMEM;
	if (HASH_COUNT(u->by_cgroup) >= LIMIT_CGROUP_CACHE) {
		HASH_DEL(u->by_cgroup, oldest);
		unit_entry_free(oldest);
	}
	HASH_ADD_KEYPTR(hh, u->by_cgroup, e->cgroup, strlen(e->cgroup), e);
	if (!e->hh.tbl)
		return -ENOMEM;
	TAKE_PTR(e);
	return 0;
}

static bool has_suffix(const char *name, size_t size, const char *suffix)
{
	size_t length = strlen(suffix);

	return size > length && memcmp(name + size - length, suffix, length) == 0;
}

/* The characters of systemd.unit(5); escapes such as \x2d are made of them. */
static bool is_unit_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr(":-_.\\@", c));
}

static bool is_slice(const char *name, size_t size)
{
	return has_suffix(name, size, ".slice");
}

static bool is_unit(const char *name, size_t size)
{
	static const char *const suffixes[] = {
		".service", ".scope", ".slice", ".socket", ".mount", ".swap", ".timer"};
	bool known = false;

	if (size > UNIT_NAME_MAX)
		return false;
	for (size_t i = 0; i < size; i++)
		if (!is_unit_character(name[i]))
			return false;
	for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
		known = known || has_suffix(name, size, suffixes[i]);
	return known;
}

static bool is_user_manager(const char *name, size_t size)
{
	return size > strlen("user@.service") && strncmp(name, "user@", 5) == 0 &&
	       has_suffix(name, size, ".service");
}

int unit_of_cgroup(const char *cgroup, char **ret_unit)
{
	const char *unit = NULL;
	size_t unit_size = 0;
	bool in_user_manager = false;

	for (const char *next = cgroup; *next != '\0';) {
		const char *name = next + strspn(next, "/");
		size_t size = strcspn(name, "/");

		next = name + size;
		/* systemd puts a '_' in front of a name that the kernel could take for a file of its own */
		if (size > 0 && *name == '_') {
			name++;
			size--;
		}
		if (!is_unit(name, size))
			break;
		if (is_slice(name, size)) {
			if (!in_user_manager) {
				unit = name;
				unit_size = size;
			}
			continue;
		}
		unit = name;
		unit_size = size;
		if (in_user_manager || !is_user_manager(name, size))
			break;
		in_user_manager = true;
	}
	*ret_unit = unit ? strndup(unit, unit_size) : NULL;
	return unit && !*ret_unit ? -ENOMEM : 0;
}

int unit_of_pid(int32_t pid, const char *cgroup, char **ret_unit)
{
	_cleanup_(free_p) char *unit = NULL, *user_unit = NULL;
	int r;

	r = sd_pid_get_unit(pid, &unit);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || !unit)
		return unit_of_cgroup(cgroup, ret_unit);
	if (is_user_manager(unit, strlen(unit)) && sd_pid_get_user_unit(pid, &user_unit) >= 0)
		*ret_unit = TAKE_PTR(user_unit);
	else
		*ret_unit = TAKE_PTR(unit);
	return 0;
}
