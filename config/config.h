/* SPDX-License-Identifier: MIT */
#pragma once

/* The configuration: one file and its drop-ins, read all or nothing. Every byte of them is suspect. */

#include "common/sighting.h"

/* One per setting, in the order of the table in config/settings.c. */
enum setting_id {
	SETTING_INTERVAL,
	SETTING_CPU_BUDGET,
	SETTING_RANGES,
	SETTING_ACCEPTED,
	SETTING_UDP_CONNECT,
	SETTING_FAILURES,
	SETTING_MAX_AGE,
	SETTING_MAX_BYTES,
	SETTING_REMOTE_ADDRESSES,
	SETTING_REMOTE_AFTER,
	SETTING_ACTIVITY_HOUR,
	SETTING_ACTIVITY_DAY,
	SETTING_USER_SHARE,
	SETTING_COALESCE_ABOVE,
	SETTING_COUNT,
};

/* What `Interval=` may be; the CPU budget stretches it no further. */
#define INTERVAL_MIN_USEC (100 * USEC_PER_MSEC)
#define INTERVAL_MAX_USEC USEC_PER_HOUR

/* What `Ranges=` says: a union. Room is left for the two words, so that config_ranges() always fits. */
#define EXPLICIT_RANGES_MAX (PORT_RANGES_MAX - 2)
struct range_choice {
	bool iana;                   /* 49152-65535 (RFC 6335 §6) */
	bool kernel;                 /* net.ipv4.ip_local_port_range, whatever it is then */
	struct port_ranges explicit; /* ascending, disjoint, at most EXPLICIT_RANGES_MAX */
};

/* What may be watched at a price: the numbers are those of enum events_extra (daemon/capture/source_events.h). */
enum extra {
	EXTRA_NO = 0,
	EXTRA_AUTO = 1, /* where it costs nothing elsewhere */
	EXTRA_YES = 2,  /* also where every system call of the host pays for it */
};

/* Where a setting was set. */
struct config_origin {
	uint32_t file; /* index into `files`; ORIGIN_DEFAULT: nowhere */
	uint32_t line; /* counts from 1 */
};
#define ORIGIN_DEFAULT UINT32_MAX

/* A plain value, but for the names of its files. The ranges of the members are those of the table. */
struct config {
	usec_t interval_usec;         /* [Capture] Interval= */
	uint32_t cpu_budget_permille; /* [Capture] CpuBudget=, of one core */
	struct range_choice ranges;   /* [Capture] Ranges= */
	bool accepted;                /* [Capture] Accepted= */
	uint8_t udp_connect;          /* [Capture] UdpConnect=, enum extra */
	uint8_t failures;             /* [Capture] Failures=, enum extra */
	struct settings store;        /* [Store] */

	struct config_origin origin[SETTING_COUNT];
	char **files; /* owned: what was read, in that order */
	size_t file_count;
};

/*
 * Reads `path`, then `path`.d/ *.conf in the byte order of their names; a later value replaces an earlier one. Where
 * `path` does not exist: an error if `must_exist`, else only the drop-ins are read. All or nothing.
 * 0, or a negative errno: -EINVAL what is written is wrong, -EFBIG more than LIMIT_CONFIG_BYTES or
 * LIMIT_CONFIG_FILES, -ESPIPE a pipe that nobody named, -ENOMEM, or what open(2) and read(2) say. Then *ret_error is "FILE:LINE: text" or
 * "FILE: text" (NULL with -ENOMEM), owned by the caller. It quotes the file: escape it where it leaves the program.
 * The caller releases *ret with config_done().
 */
int config_load(
	const char *path, bool must_exist, struct config *ret, char **ret_error) _must_check_;

/* The same for one file that is in memory; `name` is for messages and origins. */
int config_parse(const char *name, const void *data, size_t size, struct config *ret,
	char **ret_error) _must_check_;

/* Frees what the configuration owns, not the configuration. */
void config_done(struct config *c);

/* The whole configuration as a file that loads to the same values; owned by the caller. NULL: no memory. */
char *config_format(const struct config *c);

/* "default" or "FILE:LINE"; owned by the caller. NULL: no memory. */
char *config_origin_format(const struct config *c, enum setting_id id);

/*
 * The ports to watch: ascending, disjoint, neighbours merged. `kernel` is what net.ipv4.ip_local_port_range says
 * now. 0, or -EINVAL: `Ranges=` asks for it, but its low end is 0 or above its high end.
 */
int config_ranges(
	const struct config *c, struct port_range kernel, struct port_ranges *ret) _must_check_;
