/* SPDX-License-Identifier: MIT */
#pragma once

/* A pager between us and the terminal. */

#include "common/base.h"

struct pager {
	pid_t pid; /* 0: none was started */
};

/* Puts $PORTLEDGER_PAGER, $PAGER or less between standard output and the terminal. Where none can be started the
 * output goes to the terminal as it would without. */
void pager_open(struct pager *p);

/* Closes standard output and waits until the reader has read. */
void pager_close(struct pager *p);
