/* SPDX-License-Identifier: MIT */

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/claim.h"

/* These words and numbers are in databases, recordings and scripts of others: never change one. */

static void test_protocols(void **state)
{
	static const char *const names[] = {"tcp", "udp", "udplite", "mptcp"};
	enum protocol p = PROTOCOL_COUNT;

	(void)state;
	assert_int_equal(ELEMENTSOF(names), PROTOCOL_COUNT);
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		assert_string_equal(protocol_name((enum protocol)i), names[i]);
		assert_int_equal(protocol_from_name(names[i], &p), 0);
		assert_int_equal(p, i);
	}
	assert_int_equal(protocol_from_name("TCP", &p), -EINVAL);
	assert_int_equal(protocol_from_name("", &p), -EINVAL);
	assert_int_equal(protocol_from_name("tcp6", &p), -EINVAL);
	assert_int_equal(p, PROTOCOL_MPTCP);
}

static void test_roles(void **state)
{
	static const char *const names[] = {"connected", "listening", "bound", "accepted"};
	enum role r = ROLE_COUNT;

	(void)state;
	assert_int_equal(ELEMENTSOF(names), ROLE_UNKNOWN);
	assert_int_equal(ROLE_UNKNOWN, ROLE_COUNT - 1);
	assert_null(role_name(ROLE_UNKNOWN));
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		assert_string_equal(role_name((enum role)i), names[i]);
		assert_int_equal(role_from_name(names[i], &r), 0);
		assert_int_equal(r, i);
	}
	assert_int_equal(role_from_name("listen", &r), -EINVAL);
	assert_int_equal(r, ROLE_ACCEPTED);
}

static void test_attributions_and_sources(void **state)
{
	static const char *const attributions[] = {
		"none", "event", "iter", "procfd", "cgroup", "uid", "kernel"};
	static const char *const sources[] = {"sweep", "destroy", "events", "procnet"};

	(void)state;
	assert_int_equal(ELEMENTSOF(attributions), ATTRIBUTION_COUNT);
	for (size_t i = 0; i < ELEMENTSOF(attributions); i++)
		assert_string_equal(attribution_name((enum attribution)i), attributions[i]);
	assert_int_equal(ELEMENTSOF(sources), SOURCE_COUNT);
	for (size_t i = 0; i < ELEMENTSOF(sources); i++)
		assert_string_equal(source_name((enum source)i), sources[i]);
}

static void test_exe_notes(void **state)
{
	(void)state;
	assert_null(exe_note_name(EXE_NOTE_NONE));
	assert_string_equal(exe_note_name(EXE_NOTE_DELETED), "deleted");
	assert_string_equal(exe_note_name(EXE_NOTE_MEMFD), "memfd");
	assert_string_equal(exe_note_name(EXE_NOTE_OTHER_NAMESPACE), "other-mount-namespace");
}

/* A process with all that it can own, so that a leak checker sees what is not freed. */
static struct process *full_process(void)
{
	struct process *p = process_new();

	assert_non_null(p);
	p->comm = strdup("nginx");
	p->exe = strdup("/usr/sbin/nginx");
	p->cgroup = strdup("/system.slice/nginx.service");
	p->unit = strdup("nginx.service");
	p->parent_comm = strdup("systemd");
	assert_true(p->comm && p->exe && p->cgroup && p->unit && p->parent_comm);
	return p;
}

static void test_process_new(void **state)
{
	_cleanup_(process_unref_p) struct process *p = process_new();

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->references, 1);
	assert_int_equal(p->pid, 0);
	assert_int_equal(p->parent_pid, 0);
	assert_true(p->start_boot == USEC_UNSET);
	assert_int_equal(p->uid, UID_UNSET);
	assert_int_equal(p->exe_note, EXE_NOTE_NONE);
	assert_true(!p->comm && !p->exe && !p->cgroup && !p->unit && !p->parent_comm);
	assert_true(p->store_id == 0 && p->pidfd_inode == 0);
}

static void test_process_references(void **state)
{
	struct process *p = full_process();

	(void)state;
	assert_null(process_unref(NULL));
	assert_ptr_equal(process_ref(p), p);
	assert_int_equal(p->references, 2);
	assert_null(process_unref(p));
	assert_int_equal(p->references, 1);
	assert_string_equal(p->comm, "nginx");
	assert_null(process_unref(p));
}

static void test_claim_done(void **state)
{
	_cleanup_(process_unref_p) struct process *shared = full_process();
	struct claim c = {.released_boot = USEC_UNSET}, empty = {0};

	(void)state;
	c.opener = process_ref(shared);
	c.holders = calloc(2, sizeof(*c.holders));
	assert_non_null(c.holders);
	c.holders[0].process = process_ref(shared);
	c.holders[1].process = full_process();
	c.holder_count = 2;
	assert_int_equal(shared->references, 3);
	claim_done(&c);
	assert_int_equal(shared->references, 1);
	assert_true(!c.opener && !c.holders && c.holder_count == 0);
	claim_done(&c);
	claim_done(&empty);
	assert_int_equal(shared->references, 1);
}

static void test_open_and_wall(void **state)
{
	struct claim c = {.opened_boot = 1000, .opened_wall = 5000000, .released_boot = USEC_UNSET};

	(void)state;
	assert_true(claim_wall(&c, 1000) == 5000000);
	assert_true(claim_wall(&c, 1250) == 5000250);
	assert_true(claim_wall(&c, 900) == 4999900);
	assert_true(claim_wall(&c, USEC_UNSET) == USEC_UNSET);
	/* a clock that stood at the epoch when the claim was opened */
	c.opened_wall = 10;
	assert_true(claim_wall(&c, 900) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_protocols),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_attributions_and_sources),
		cmocka_unit_test(test_exe_notes),
		cmocka_unit_test(test_process_new),
		cmocka_unit_test(test_process_references),
		cmocka_unit_test(test_claim_done),
		cmocka_unit_test(test_open_and_wall),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
