/* SPDX-License-Identifier: MIT */
#pragma once

/* Names of users, looked up by the client and never by the daemon: a name service may be slow, remote or hostile. */

#include "common/base.h"

struct users;

struct users *users_new(void);
struct users *users_free(struct users *u);
DEFINE_CLEANUP(struct users, users_free)

/* The name of a uid, or NULL where it has none. Lives as long as `u`; each uid is looked up once. */
const char *users_name(struct users *u, uint32_t uid);

/* The uid of a name or of a decimal number. 0, or -ENOENT: no such user. */
int users_uid(const char *name, uint32_t *ret) _must_check_;
