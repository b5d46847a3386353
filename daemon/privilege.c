/* SPDX-License-Identifier: MIT */

#include "daemon/privilege.h"

#include <cap-ng.h>
#include <fcntl.h>
#include <sys/prctl.h>

#include "daemon/attributes.h"
#include "daemon/landlock.h"

static const capng_type_t KEPT_TYPES = CAPNG_EFFECTIVE | CAPNG_PERMITTED;

static int drop_capabilities(enum privilege p)
{
	static const unsigned capture[] = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};
	bool had[ELEMENTSOF(capture)], may_bound;

	if (capng_get_caps_process() < 0)
		return -EPERM;
	for (size_t i = 0; i < ELEMENTSOF(capture); i++)
		had[i] = capng_have_capability(CAPNG_EFFECTIVE, capture[i]) == 1;
	may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) == 1;
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < ELEMENTSOF(capture) && p == PRIVILEGE_CAPTURE; i++)
		if (had[i] && capng_update(CAPNG_ADD, KEPT_TYPES, capture[i]) < 0)
			return -EPERM;
	/* Without CAP_SETPCAP, which systemd has spent for us, no_new_privs is what holds. */
	if (may_bound && capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		return -EPERM;
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return -EPERM;
	if (capng_get_caps_process() < 0)
		return -EPERM;
	if (p != PRIVILEGE_CAPTURE && capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE)
		return -EPERM;
	return 0;
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

int privilege_drop(enum privilege p, int state_fd)
{
	bool confined;
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* A unit with User= gives capabilities as ambient ones. */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	r = drop_capabilities(p);
	if (r < 0 || p != PRIVILEGE_CONTROL)
		return r;
	r = confine_to(state_fd);
	if (r < 0)
		return r;
	confined = r == 1;
	r = attributes_freeze();
	return r < 0 ? r : !confined || r == 0;
}
