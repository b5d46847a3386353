/* SPDX-License-Identifier: MIT */

/*
 * Why not sscanf: a process chooses its name, its cgroup's name and the path of its executable. The only thing in
 * /proc/PID/stat that it cannot write is what follows the last ')'; /proc/PID/status escapes newlines, so that a
 * line of it cannot be forged; cgroup names cannot hold newlines.
 */

#include "daemon/capture/proc_parse.h"

/* Bytes that are taken from the front. */
struct cursor {
	const char *next;
	size_t left;
};

/* Takes the next piece up to `separator` (which is dropped) or to the end. False: nothing is left. */
static bool take_piece(struct cursor *c, char separator, struct cursor *ret)
{
	const char *end;

	if (c->left == 0)
		return false;
	end = memchr(c->next, separator, c->left);
	*ret = (struct cursor){c->next, end ? (size_t)(end - c->next) : c->left};
	c->next += end ? ret->left + 1 : ret->left;
	c->left -= end ? ret->left + 1 : ret->left;
	return true;
}

static bool take_prefix(struct cursor *c, const char *prefix)
{
	size_t size = strlen(prefix);

	if (c->left < size || memcmp(c->next, prefix, size) != 0)
		return false;
	c->next += size;
	c->left -= size;
	return true;
}

/* Takes the digits in front, in base 8, 10 or 16 (lower case). False: none, or more than 64 bits. */
static bool take_number(struct cursor *c, unsigned base, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; i < c->left; i++) {
		char byte = c->next[i];
		unsigned digit = byte >= '0' && byte <= '9'   ? (unsigned)(byte - '0')
				 : byte >= 'a' && byte <= 'f' ? (unsigned)(byte - 'a') + 10
							      : base;

		if (digit >= base)
			break;
		if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
			__builtin_add_overflow(value, (uint64_t)digit, &value))
			return false;
	}
	if (i == 0)
		return false;
	c->next += i;
	c->left -= i;
	*ret = value;
	return true;
}

static void skip_blanks(struct cursor *c)
{
	while (c->left > 0 && (*c->next == ' ' || *c->next == '\t')) {
		c->next++;
		c->left--;
	}
}

/* The whole piece as a number of at most `max`. */
static bool piece_number(struct cursor piece, uint64_t max, uint64_t *ret)
{
	uint64_t value;

	if (!take_number(&piece, 10, &value) || piece.left > 0 || value > max)
		return false;
	*ret = value;
	return true;
}

int proc_parse_stat(const char *text, size_t size, struct proc_stat *ret)
{
	const char *open = size > 0 ? memchr(text, '(', size) : NULL;
	const char *close = size > 0 ? memrchr(text, ')', size) : NULL;
	uint64_t parent = 0, flags = 0, start = 0;
	char state = '\0';
	struct cursor rest, field;

	if (!open || !close || close < open)
		return -EBADMSG;
	rest = (struct cursor){close + 1, size - (size_t)(close + 1 - text)};
	if (!take_prefix(&rest, " "))
		return -EBADMSG;
	for (unsigned number = 3; number <= 22; number++) {
		if (!take_piece(&rest, ' ', &field))
			return -EBADMSG;
		if (number == 3 && field.left == 1)
			state = *field.next;
		if (number == 4 && !piece_number(field, INT32_MAX, &parent))
			return -EBADMSG;
		if (number == 9 && !piece_number(field, UINT32_MAX, &flags))
			return -EBADMSG;
	}
	if (state == '\0' || !piece_number(field, UINT64_MAX, &start))
		return -EBADMSG;
	*ret = (struct proc_stat){
		.comm = open + 1,
		.comm_size = (size_t)(close - open - 1),
		.state = state,
		.parent_pid = (int32_t)parent,
		.flags = (uint32_t)flags,
		.start_ticks = start,
	};
	return 0;
}

int proc_parse_status(const char *text, size_t size, struct proc_status *ret)
{
	struct cursor rest = {text, size}, line;
	struct proc_status status = {0};
	uint64_t number;
	bool found = false;

	while (take_piece(&rest, '\n', &line)) {
		if (take_prefix(&line, "Uid:")) {
			for (unsigned i = 0; i < 2; i++) {
				skip_blanks(&line);
				if (!take_number(&line, 10, &number) || number > UINT32_MAX)
					return -EBADMSG;
			}
			status.effective_uid = (uint32_t)number;
			found = true;
		} else if (take_prefix(&line, "CapEff:")) {
			skip_blanks(&line);
			if (!take_number(&line, 16, &status.effective_capabilities))
				return -EBADMSG;
		}
	}
	if (!found)
		return -EBADMSG;
	*ret = status;
	return 0;
}

bool proc_cut_suffix(const char *text, size_t *size, const char *suffix)
{
	size_t length = strlen(suffix);

	if (*size < length || memcmp(text + *size - length, suffix, length) != 0)
		return false;
	*size -= length;
	return true;
}

int proc_parse_cgroup(const char *text, size_t size, const char **ret_path, size_t *ret_size)
{
	struct cursor rest = {text, size}, line, unified = {0}, named = {0}, *chosen;

	while (take_piece(&rest, '\n', &line)) {
		struct cursor id, controllers;

		if (take_prefix(&line, "0::"))
			unified = line;
		else if (take_piece(&line, ':', &id) && take_piece(&line, ':', &controllers) &&
			 controllers.left == strlen("name=systemd") &&
			 take_prefix(&controllers, "name=systemd"))
			named = line;
	}
	chosen = unified.left > 1 || named.left == 0 ? &unified : &named;
	if (chosen->left == 0 || *chosen->next != '/')
		return -ENODATA;
	(void)proc_cut_suffix(chosen->next, &chosen->left, PROC_DELETED);
	*ret_path = chosen->next;
	*ret_size = chosen->left;
	return 0;
}

bool proc_parse_socket(const char *text, size_t size, uint64_t *ret_inode)
{
	struct cursor rest = {text, size};
	uint64_t inode;

	if (!take_prefix(&rest, "socket:[") || !take_number(&rest, 10, &inode) ||
		!take_prefix(&rest, "]") || rest.left > 0)
		return false;
	*ret_inode = inode;
	return true;
}

bool proc_parse_pid(const char *name, int32_t *ret_pid)
{
	uint64_t pid;

	if (*name == '0' || !piece_number((struct cursor){name, strlen(name)}, INT32_MAX, &pid))
		return false;
	*ret_pid = (int32_t)pid;
	return true;
}

/* A field of mountinfo without its octal escapes (\040 and the like). */
static char *unescape_octal(struct cursor field)
{
	char *text = malloc(field.left + 1), *end = text;

	if (!text)
		return NULL;
	while (field.left > 0) {
		struct cursor code = {field.next + 1, MIN(field.left - 1, (size_t)3)};
		uint64_t byte;

		if (*field.next == '\\' && take_number(&code, 8, &byte) && code.left == 0 &&
			code.next == field.next + 4 && byte > 0 && byte <= UINT8_MAX) {
			*end++ = (char)byte;
			field.next += 4;
			field.left -= 4;
		} else {
			*end++ = *field.next++;
			field.left--;
		}
	}
	*end = '\0';
	return text;
}

/* A line of mountinfo: "36 35 0:30 ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE SUPER". */
static bool is_cgroup2_root(struct cursor line, struct cursor *ret_mount)
{
	struct cursor field, mount = {0};
	bool whole = false;

	for (unsigned number = 1; take_piece(&line, ' ', &field); number++) {
		if (number == 4)
			whole = field.left == 1 && *field.next == '/';
		if (number == 5)
			mount = field;
		if (number > 6 && field.left == 1 && *field.next == '-')
			break;
	}
	if (!whole || mount.left == 0 || !take_prefix(&line, "cgroup2 "))
		return false;
	*ret_mount = mount;
	return true;
}

int proc_parse_cgroup2_mount(const char *text, size_t size, char **ret_path)
{
	struct cursor rest = {text, size}, line, mount;

	while (take_piece(&rest, '\n', &line)) {
		char *path;

		if (!is_cgroup2_root(line, &mount))
			continue;
		path = unescape_octal(mount);
		if (!path)
			return -ENOMEM;
		*ret_path = path;
		return 0;
	}
	return -ENODATA;
}

usec_t proc_ticks_to_usec(uint64_t ticks, uint64_t ticks_per_second)
{
	uint64_t seconds = ticks / ticks_per_second, rest = ticks % ticks_per_second;

	if (seconds >= USEC_UNSET / USEC_PER_SEC)
		return USEC_UNSET;
	return seconds * USEC_PER_SEC + rest * USEC_PER_SEC / ticks_per_second;
}
