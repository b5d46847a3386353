/* SPDX-License-Identifier: MIT */
#pragma once

/* Included before all else where the daemon of another version is built, for the test of upgrades: how it differs from the present one. */

#define CLAIMS_LAYOUT 2
#define EVENTS_HOOK_MORE                                                                           \
	{                                                                                          \
		"on_getpeername4", "getpeername4", ATTACH_CGROUP, SET_ALWAYS                       \
	}
