/* SPDX-License-Identifier: MIT */
#pragma once

/* One line per event: to the journal with its fields where standard error is the journal's stream, else to standard
 * error, with systemd's <N> priority prefix where that is not a terminal. It never waits and raises no signal: a line that
 * nobody takes is counted, and the count is said with the next one that somebody takes.
 * A function either logs an error or returns it, never both. */

#include "common/base.h"
#include "common/event.h"

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

/* From here on to the journal that listens at `path` (which must outlive the log), if standard error is its stream; else
 * nothing changes. */
void log_to_journal(const char *path);

/* The descriptor that the log writes to beside standard error, or -1. A child that closes what it does not need keeps it. */
int log_descriptor(void);

/* Another name in front, after a fork. */
void log_name(const char *process);

/* One line; control bytes in it are escaped. Keeps errno. */
void log_line(enum log_level level, const char *format, ...) _printf_(2, 3);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* A field of an event. Its name in the journal has PORTLEDGER_ before it. */
struct log_field {
	const char *name;
	const char *text; /* any bytes, escaped on their way out; NULL: the field is left out ... */
	uint64_t number;  /* ... or is this number */
	bool is_number;
};

#define LOG_TEXT(field, value) ((struct log_field){.name = (field), .text = (value)})
#define LOG_NUMBER(field, value)                                                                   \
	((struct log_field){.name = (field), .number = (value), .is_number = true})
/* LOG_FIELDS(LOG_TEXT("EXE", exe), LOG_NUMBER("PORT", port)) */
#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, {.name = NULL}})
#define LOG_NO_FIELDS   ((const struct log_field[]){{.name = NULL}})

/* The same with a MESSAGE_ID, and the level that the event has; a nameless field ends `fields`. Keeps errno. */
void log_event(enum log_event event, const struct log_field *fields, const char *format, ...)
	_printf_(3, 4);
