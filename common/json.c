/* SPDX-License-Identifier: MIT */

/*
 * jansson (2.14) passes over an allocation that fails while a string grows. What it then writes lacks a part; what it reads is a string
 * whose end it looks for behind the memory that it has, copying as it goes. So it never sees an allocation fail: where there is no
 * memory we jump out of it, over its frames, and give back all that it was given meanwhile. It keeps nothing else there: no descriptor,
 * no lock, and nothing of the value that is written.
 *
 * What it gives back by itself is kept until it is done, so that both are plain lists, and neither is searched.
 */

#include "common/json.h"

#include <setjmp.h>

#define FIRST_ROOM 32u

/* One at a time, as jansson's allocator is one for the process. */
static struct {
	json_malloc_t allocate; /* those that jansson has outside of this file */
	json_free_t release;
	void **given;      /* owned: room for `room` of each; all that it was given */
	void **given_back; /* behind these: those of them that it does not use any more */
	size_t given_count, back_count, room;
	jmp_buf out;
} work;

static bool grow(void)
{
	size_t room = work.room > 0 ? 2 * work.room : FIRST_ROOM;
	void **given = work.allocate(2 * room * sizeof(*given));

	if (!given)
		return false;
	if (work.room > 0) {
		memcpy(given, work.given, work.given_count * sizeof(*given));
		memcpy(given + room, work.given_back, work.back_count * sizeof(*given));
	}
	work.release(work.given);
	work.given = given;
	work.given_back = given + room;
	work.room = room;
	return true;
}

static void *give(size_t size)
{
	void *there = work.given_count < work.room || grow() ? work.allocate(size) : NULL;

	if (!there)
		longjmp(work.out, 1);
	work.given[work.given_count++] = there;
	return there;
}

static void take_back(void *there)
{
	if (!there)
		return;
	assert(work.back_count < work.given_count);
	work.given_back[work.back_count++] = there;
}

static void begin(void)
{
	json_get_alloc_funcs(&work.allocate, &work.release);
	work.given = work.given_back = NULL;
	work.given_count = work.back_count = work.room = 0;
	json_set_alloc_funcs(give, take_back);
}

static void end(void *const *unused, size_t count)
{
	json_set_alloc_funcs(work.allocate, work.release);
	for (size_t i = 0; i < count; i++)
		work.release(unused[i]);
	work.release(work.given);
}

int json_read(const char *text, size_t size, size_t flags, json_t **ret)
{
	json_t *root;

	begin();
	if (setjmp(work.out) != 0) {
		end(work.given, work.given_count);
		return -ENOMEM;
	}
	root = json_loadb(text, size, flags, NULL);
	end(work.given_back, work.back_count);
	if (!root)
		return 0;
	*ret = root;
	return 1;
}

int json_write(const json_t *value, size_t flags, char **ret)
{
	char *text;

	begin();
	if (setjmp(work.out) != 0) {
		end(work.given, work.given_count);
		return -ENOMEM;
	}
	text = json_dumps(value, flags);
	end(work.given_back, work.back_count);
	assert(text);
	*ret = text;
	return 0;
}
