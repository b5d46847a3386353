/* SPDX-License-Identifier: MIT */

#include "daemon/privilege.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <sys/prctl.h>

#include "daemon/landlock.h"
#include "daemon/syscalls.h"

static const capng_type_t KEPT_TYPES = CAPNG_EFFECTIVE | CAPNG_PERMITTED;

/* All that capture may have: to read /proc/PID/fd of others. */
static const unsigned CAPTURE_MAY[] = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};

static bool may_have(enum privilege p, unsigned capability)
{
	for (size_t i = 0; i < ELEMENTSOF(CAPTURE_MAY) && p == PRIVILEGE_CAPTURE; i++)
		if (CAPTURE_MAY[i] == capability)
			return true;
	return false;
}

/* What the kernel says is left, of each kind by which a capability can be used or come back. */
static int verify_capabilities(enum privilege p)
{
	static const capng_type_t kinds[] = {
		CAPNG_EFFECTIVE, CAPNG_PERMITTED, CAPNG_INHERITABLE, CAPNG_AMBIENT};

	if (capng_get_caps_process() < 0)
		return -EPERM;
	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		for (size_t k = 0; k < ELEMENTSOF(kinds); k++)
			if (capng_have_capability(kinds[k], c) == 1 &&
				!((kinds[k] & KEPT_TYPES) && may_have(p, c)))
				return -EPERM;
	return 0;
}

static int drop_capabilities(enum privilege p)
{
	bool had[ELEMENTSOF(CAPTURE_MAY)], may_bound;

	if (capng_get_caps_process() < 0)
		return -EPERM;
	for (size_t i = 0; i < ELEMENTSOF(CAPTURE_MAY); i++)
		had[i] = capng_have_capability(CAPNG_EFFECTIVE, CAPTURE_MAY[i]) == 1;
	may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < ELEMENTSOF(CAPTURE_MAY); i++)
		if (had[i] && may_have(p, CAPTURE_MAY[i]) &&
			capng_update(CAPNG_ADD, KEPT_TYPES, CAPTURE_MAY[i]) < 0)
			return -EPERM;
	/* Without CAP_SETPCAP, which systemd has spent for us, no_new_privs is what holds. */
	if (may_bound && capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		return -EPERM;
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -EPERM;
	return verify_capabilities(p);
}

/* What cost_of_self(), SQLite and reserved_read() read; by descriptors that are open already, the log and the sockets go on.
 * The kernel's settings are not to be seen everywhere: without them, reserved ports are not known. */
static int confine_to(int state_fd)
{
	_cleanup_(close_p) int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_p) int settings =
		open("/proc/sys/net/ipv4", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const int directories[] = {state_fd, self, settings};

	if (self < 0)
		return -errno;
	return landlock_read_only(
		directories, settings < 0 ? ELEMENTSOF(directories) - 1 : ELEMENTSOF(directories));
}

static enum syscalls syscalls_of(enum privilege p)
{
	switch (p) {
	case PRIVILEGE_CAPTURE:
	case PRIVILEGE_EVENTS:
		return SYSCALLS_CAPTURE;
	case PRIVILEGE_LEDGER:
		return SYSCALLS_LEDGER;
	case PRIVILEGE_CONTROL:
		return SYSCALLS_CONTROL;
	}
	abort();
}

int privilege_drop(enum privilege p, int state_fd)
{
	bool confined = true;
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Who has the same uid neither attaches to us nor reads our memory and our descriptors, and nothing of them is dumped. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	/* A unit with User= gives capabilities as ambient ones. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	r = drop_capabilities(p);
	if (r == 0 && p == PRIVILEGE_CONTROL) {
		r = confine_to(state_fd);
		confined = r != 0;
	}
	if (r < 0)
		return r;
	r = syscalls_confine(syscalls_of(p));
	return r < 0 ? r : !confined || r == 0;
}
