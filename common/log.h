/* SPDX-License-Identifier: MIT */
#pragma once

/* One line per event to standard error, with systemd's <N> priority prefix where it is not a terminal.
 * A function either logs an error or returns it, never both. */

#include "common/base.h"

enum log_level {
	LOG_LEVEL_ERROR = 3, /* syslog(3) priorities */
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* `process` is shown in front of each line ("capture", "ledger", "control"); it must outlive the log.
 * Lines above `max` are dropped. */
void log_open(const char *process, enum log_level max);

/* Another name in front, after a fork. */
void log_name(const char *process);

/* One line; control bytes in it are escaped. Keeps errno. */
void log_line(enum log_level level, const char *format, ...) _printf_(2, 3);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
