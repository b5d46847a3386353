/* SPDX-License-Identifier: MIT */

#include "daemon/privilege.h"

#include <cap-ng.h>
#include <sys/prctl.h>

static const capng_type_t KEPT_TYPES = CAPNG_EFFECTIVE | CAPNG_PERMITTED;

int privilege_drop(enum privilege p)
{
	static const unsigned capture[] = {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH};
	bool had[ELEMENTSOF(capture)], may_bound;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
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
	if (p == PRIVILEGE_NONE && capng_have_capabilities(CAPNG_SELECT_CAPS) != CAPNG_NONE)
		return -EPERM;
	return 0;
}
