/* SPDX-License-Identifier: MIT */
#pragma once

/* JSON that is read, and written, whole or not at all, also where memory is short. */

#include <jansson.h>

#include "common/base.h"

/* As json_loadb(3), with its flags. 1; 0: it is no JSON, and *ret is as it was; -ENOMEM. The caller owns *ret. */
int json_read(const char *text, size_t size, size_t flags, json_t **ret) _must_check_;

/* As json_dumps(3), with its flags, of what these can write. 0 or -ENOMEM. The caller releases *ret with free(3). */
int json_write(const json_t *value, size_t flags, char **ret) _must_check_;
