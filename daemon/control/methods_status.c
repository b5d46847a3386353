/* SPDX-License-Identifier: MIT */

/* Status and Doctor: what the ledger said last and what is in the database, put together. */

#include "daemon/control/methods_private.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/escape.h"
#include "daemon/reserved.h"
#include "daemon/cost.h"
#include "daemon/schema.h"

#define DISK_LOW_BYTES (UINT64_C(64) << 20)
#define EXTRA_FIX(setting)                                                                         \
	"set " setting "=yes in portledger.conf; where it is, mount tracefs at /sys/kernel/tracing"

const char *store_trouble(int error)
{
	switch (error) {
	case -ENOENT:
		return "there is no database yet";
	case -EACCES:
		return "the database may not be read";
	case -EPROTO:
		return "the database is of another version";
	case -EUCLEAN:
		return "the database is damaged";
	case -EBUSY:
		return "the database is locked";
	case -ESTALE:
		return "the database was replaced";
	case -ETIMEDOUT:
		return "the database takes too long";
	default:
		return "the database cannot be read";
	}
}

/* What an answer of Status and Doctor is made of. */
struct picture {
	const struct committed *last; /* NULL: the ledger has not said anything yet */
	int store_error;              /* 0: what follows was read */
	struct query_state state;
	uint64_t used[PROTOCOL_COUNT];
	uint64_t day_gaps;
	usec_t day_gap_usec;
	char *gap_reason; /* owned */
};

static void picture_done(struct picture *p)
{
	free(p->gap_reason);
}

static const struct coverage *picture_coverage(const struct picture *p)
{
	static const struct coverage none;

	if (p->last && p->last->coverage.ranges.count > 0)
		return &p->last->coverage;
	return p->store_error == 0 && p->state.covered ? &p->state.coverage : &none;
}

static int read_picture(struct request *r, struct picture *p)
{
	struct query *q = r->methods->query;
	const struct window day = {usec_sub(r->asked.wall, USEC_PER_DAY), r->asked.wall};
	int e = query_state(q, &p->state);

	p->last = link_last(r->methods->link);
	if (e == 0)
		e = query_used(q, reserved_netns(), picture_coverage(p)->ephemeral, p->used);
	if (e == 0)
		e = query_gaps(q, day, &p->day_gaps, &p->day_gap_usec, &p->gap_reason);
	return e;
}

static bool is_watching(const struct request *r, const struct picture *p)
{
	return r->look == LOOK_DONE && link_is_up(r->methods->link) && p->last && p->last->watching;
}

/* Why an answer may be worth less than it looks, one reason after the other. */
typedef int reason_t(void *context, const char *reason);

/* Those that the ledger knows; `all` may be NULL. */
static int each_told(const char *all, reason_t *take, void *context)
{
	_cleanup_(free_p) char *copy = all ? strdup(all) : NULL;
	int e = all && !copy ? -ENOMEM : 0;

	for (char *reason = copy, *end; reason && e == 0; reason = end) {
		end = strstr(reason, DEGRADED_BETWEEN);
		if (end) {
			*end = '\0';
			end += strlen(DEGRADED_BETWEEN);
		}
		e = take(context, reason);
	}
	return e;
}

static int each_degraded(struct request *r, int store_error, reason_t *take, void *context)
{
	static const char *const looks[] = {
		[LOOK_DONE] = NULL,
		[LOOK_PARTIAL] = "capture did not answer in time, the newest claims may be missing",
		[LOOK_LATE] = "daemon did not answer the sync in time",
		[LOOK_NO_LEDGER] = "ledger is restarting",
	};
	const struct committed *c = link_last(r->methods->link);
	int e = looks[r->look] ? take(context, looks[r->look]) : 0;

	if (e == 0 && store_error < 0)
		e = take(context, store_trouble(store_error));
	if (e == 0 && store_error == 0 && query_is_damaged(r->methods->query))
		e = take(context,
			"a question met damage in the database, which is recorded in as before; "
			"stop portledgerd, save what sqlite3 " SCHEMA_FILE
			" .recover gives, and move it away");
	if (e == 0 && c && r->look == LOOK_DONE && !c->watching)
		e = take(context, "no whole sweep yet");
	if (e == 0 && c && c->watching && !c->coverage.foreign_processes)
		e = take(context, "processes of other users cannot be named, only their uid");
	return e == 0 && c ? each_told(c->degraded, take, context) : e;
}

struct list {
	struct buf *text;
	size_t count;
};

static int append_reason(void *context, const char *reason)
{
	struct list *l = context;
	int e = l->count++ ? buf_append_string(l->text, ",") : 0;

	return e == 0 ? escape_json(l->text, reason) : e;
}

/* Why no better rung is there, each stretch of a receipt says in its way. */
static int append_wrong(void *context, const char *reason)
{
	return strncmp(reason, DEGRADED_OBSTACLE, strlen(DEGRADED_OBSTACLE)) == 0
		       ? 0
		       : append_reason(context, reason);
}

int append_receipt(struct request *r, struct receipt_of of, struct buf *text)
{
	_cleanup_(buf_done) struct buf wrong = {0};
	struct list list = {.text = &wrong};
	/* what the ledger said once may be over; where nobody had to look, all that was asked for was stored before */
	int e = r->looked ? each_degraded(r, 0, append_wrong, &list) : 0;

	of.window = r->window;
	of.degraded = &wrong;
	return e == 0 ? coverage_receipt(r->methods->query, &of, text) : e;
}

static int append_processes(const struct picture *p, struct buf *text)
{
	const struct cost self = cost_of_self();
	const struct {
		const char *name;
		const struct cost *cost;
	} processes[] = {
		{"capture", p->last ? &p->last->capture : NULL},
		{"ledger", p->last ? &p->last->ledger : NULL},
		{"control", &self},
	};
	const char *between = ",\"processes\":[";
	int e = 0;

	for (size_t i = 0; e == 0 && i < ELEMENTSOF(processes); i++) {
		const struct cost *c = processes[i].cost;

		if (!c || c->pid <= 0)
			continue;
		e = buf_append_format(text,
			"%s{\"name\":\"%s\",\"pid\":%d,\"cpu_usec\":%" PRIu64 ",\"pss_bytes\":",
			between, processes[i].name, (int)c->pid, c->cpu_usec);
		if (e == 0)
			e = c->pss_bytes ? buf_append_format(text, "%" PRIu64 "}", c->pss_bytes)
					 : buf_append_string(text, "null}");
		between = ",";
	}
	return e == 0 ? buf_append_string(text, "]") : e;
}

/* A number, or null where it is not known. */
static int append_number(struct buf *text, const char *name, bool known, uint64_t value)
{
	return known ? buf_append_format(text, ",\"%s\":%" PRIu64, name, value)
		     : buf_append_format(text, ",\"%s\":null", name);
}

/* The database and what is not checkpointed yet. */
static uint64_t database_bytes(const struct request *r)
{
	static const char *const suffixes[] = {"", "-wal"};
	uint64_t bytes = 0;

	for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
		char path[PATH_MAX];
		struct stat st;
		int n = snprintf(path, sizeof(path), "%s/%s%s", r->methods->state_path, SCHEMA_FILE,
			suffixes[i]);

		if (n > 0 && (size_t)n < sizeof(path) && stat(path, &st) == 0)
			bytes += (uint64_t)st.st_size;
	}
	return bytes;
}

static int append_numbers(const struct request *r, const struct picture *p, struct buf *text)
{
	const struct committed *c = p->last;
	const struct committed none = {0}, *l = c ? c : &none;
	const bool read = p->store_error == 0;
	const struct {
		const char *name;
		bool known;
		uint64_t value;
	} numbers[] = {
		{"sweeps", c, l->sweeps},
		{"sweep_cpu_usec", c, l->sweep_cpu_usec},
		{"open_claims", read || c, read ? p->state.open_claims : l->open_claims},
		{"recorded", c, l->recorded},
		{"lost", c && l->coverage.rung == SOURCE_EVENTS, l->lost},
		{"gaps", c, l->gaps},
		{"unattributed", read || c, read ? p->state.unattributed : l->unattributed},
		{"found_only_by_sweep", c, l->found_only_by_sweep},
		{"lost_ends", c && l->coverage.rung == SOURCE_EVENTS, l->lost_ends},
		{"database_bytes", true, database_bytes(r)},
		{"oldest_usec", read && p->state.oldest != USEC_UNSET, p->state.oldest},
	};
	int e = 0;

	for (size_t i = 0; e == 0 && i < ELEMENTSOF(numbers); i++)
		e = append_number(text, numbers[i].name, numbers[i].known, numbers[i].value);
	return e;
}

static int append_ranges(const struct picture *p, struct buf *text)
{
	const struct coverage *c = picture_coverage(p);
	int e = buf_append_format(text, ",\"udp_connect\":%s,\"failures\":%s,\"ranges\":[",
		c->udp_connect ? "true" : "false", c->failures ? "true" : "false");

	for (uint32_t i = 0; e == 0 && i < c->ranges.count; i++)
		e = buf_append_format(text, "%s{\"low\":%u,\"high\":%u}", i ? "," : "",
			c->ranges.range[i].low, c->ranges.range[i].high);
	if (e == 0)
		e = buf_append_format(text, "],\"ephemeral\":{\"low\":%u,\"high\":%u},\"used\":{",
			c->ephemeral.low, c->ephemeral.high);
	for (unsigned i = 0; e == 0 && i < PROTOCOL_COUNT; i++)
		e = buf_append_format(text, "%s\"%s\":%" PRIu64, i ? "," : "",
			protocol_name((enum protocol)i), p->used[i]);
	return e == 0 ? buf_append_string(text, "}") : e;
}

static int reply_status(struct request *r, const struct picture *p)
{
	_cleanup_(buf_done) struct buf text = {0};
	const struct coverage *c = picture_coverage(p);
	struct list degraded = {.text = &text};
	int e = buf_append_format(&text, "{\"rung\":\"%s\",\"interval_usec\":%" PRIu64,
		c->ranges.count ? source_name((enum source)c->rung) : "none", c->interval_usec);

	if (e == 0)
		e = append_numbers(r, p, &text);
	if (e == 0)
		e = buf_append_string(&text, ",\"degraded\":[");
	if (e == 0)
		e = each_degraded(r, p->store_error, append_reason, &degraded);
	if (e == 0)
		e = buf_append_string(&text, "]");
	if (e == 0)
		e = append_processes(p, &text);
	if (e == 0)
		e = buf_append_format(&text,
			",\"version\":\"" PORTLEDGER_VERSION "\",\"watching\":%s",
			is_watching(r, p) ? "true" : "false");
	if (e == 0)
		e = append_ranges(p, &text);
	if (e == 0)
		e = buf_append_string(&text, "}");
	return e < 0 ? e : request_reply(r, &text, false);
}

static int status(struct request *r)
{
	_cleanup_(picture_done) struct picture p = {0};

	p.store_error = read_picture(r, &p);
	return reply_status(r, &p);
}

static int status_without_store(struct request *r, int error)
{
	const struct picture p = {.last = link_last(r->methods->link), .store_error = error};

	return reply_status(r, &p);
}

static const struct parameter no_parameters[] = {{0}};

const struct method method_status = {"Status", no_parameters, .looks = LOOKS_ALWAYS, .run = status,
	.without_store = status_without_store};

struct checks {
	struct request *request;
	const struct picture *picture;
	struct buf text;
	size_t count;
};

static const char ok[] = "ok", warning[] = "warning", failure[] = "failure";

/* `fix`: the command or setting that mends it, NULL: there is none. */
static int append_check(struct checks *c, const char *name, const char *level, const char *fix,
	const char *format, ...) _printf_(5, 6);

static int append_check(struct checks *c, const char *name, const char *level, const char *fix,
	const char *format, ...)
{
	char text[512];
	va_list list;
	int e;

	va_start(list, format);
	(void)vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	e = buf_append_format(&c->text,
		"%s{\"name\":\"%s\",\"level\":\"%s\",\"text\":", c->count++ ? "," : "", name,
		level);
	if (e == 0)
		e = escape_json(&c->text, text);
	if (e == 0)
		e = buf_append_string(&c->text, ",\"fix\":");
	if (e == 0)
		e = fix ? escape_json(&c->text, fix) : buf_append_string(&c->text, "null");
	return e == 0 ? buf_append_string(&c->text, "}") : e;
}

static int check_database(struct checks *c)
{
	const struct picture *p = c->picture;
	const struct request *r = c->request;

	if (p->store_error < 0)
		return append_check(c, "database", failure,
			p->store_error == -EACCES
				? "ls -l the state directory: group portledger reads it"
				: NULL,
			"%s", store_trouble(p->store_error));
	return append_check(c, "database", ok, NULL,
		"readable, %" PRIu64 " bytes, complete up to %" PRIu64 " s ago", database_bytes(r),
		usec_sub(r->asked.wall, p->state.last_seen) / USEC_PER_SEC);
}

/* `reason` ends with what mends it, where anything does: *ret_size is what comes before. */
static const char *find_fix(const char *reason, int *ret_size)
{
	const char *fix = NULL;

	for (const char *at = strstr(reason, "; "); at; at = strstr(fix, "; "))
		fix = at + strlen("; ");
	*ret_size = (int)(fix ? (size_t)(fix - reason) - strlen("; ") : strlen(reason));
	return fix;
}

static int append_failure(void *context, const char *reason)
{
	const size_t length = strlen(DEGRADED_OBSTACLE);
	bool obstacle = strncmp(reason, DEGRADED_OBSTACLE, length) == 0;
	int size;
	const char *fix = find_fix(obstacle ? reason + length : reason, &size);

	if (obstacle)
		return append_check(
			context, "events", warning, fix, "none: %.*s", size, reason + length);
	return append_check(context, "watching", failure, fix, "%.*s", size, reason);
}

static int check_watching(struct checks *c)
{
	if (is_watching(c->request, c->picture))
		return append_check(c, "watching", ok, NULL,
			"%" PRIu64 " sweeps, the last took %" PRIu64 " us of CPU",
			c->picture->last->sweeps, c->picture->last->sweep_cpu_usec);
	return 0;
}

static int check_rung(struct checks *c, const struct coverage *k)
{
	unsigned long long msec = k->interval_usec / USEC_PER_MSEC;

	if (k->ranges.count == 0)
		return 0;
	switch ((enum source)k->rung) {
	case SOURCE_EVENTS:
		return append_check(c, "rung", ok, NULL, "events: every claim is seen");
	case SOURCE_DESTROY:
		return append_check(c, "rung", ok, NULL,
			"destroy: nearly every end is seen, and every claim that lasts %llu ms; shorter "
			"ones have no process",
			msec);
	case SOURCE_SWEEP:
		return append_check(c, "rung", ok, NULL,
			"sweep: the sockets are looked at every %llu ms; a claim that comes and goes "
			"in between is missed",
			msec);
	case SOURCE_PROCNET:
		return append_check(c, "rung", warning, "modprobe -a inet_diag tcp_diag udp_diag",
			"procnet: this kernel has no inet_diag, /proc/net is read every %llu ms; a claim "
			"that comes and goes in between is missed, and so are bound-only sockets",
			msec);
	case SOURCE_COUNT:
		break;
	}
	return 0;
}

static int check_rights(struct checks *c, const struct coverage *k)
{
	int e;

	if (k->ranges.count == 0)
		return 0;
	e = k->foreign_processes
		    ? append_check(
			      c, "capabilities", ok, NULL, "processes of all users can be named")
		    : append_check(c, "capabilities", warning,
			      "run as root or with AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH",
			      "processes of other users cannot be named, only their uid");
	if (e == 0 && !k->bound_only)
		e = append_check(c, "bound-only", warning, NULL,
			"TCP sockets that are bound and no more are not seen: the kernel is older than 6.8");
	if (e == 0 && k->rung == SOURCE_EVENTS && !k->udp_connect)
		e = append_check(c, "udp-connect", ok, EXTRA_FIX("UdpConnect"),
			"UDP connects are known only from their end; UdpConnect=yes costs every system call "
			"20 to 50 ns");
	if (e == 0 && k->rung == SOURCE_EVENTS && !k->failures)
		e = append_check(c, "failures", ok, EXTRA_FIX("Failures"),
			"binds and connects that fail are not watched; Failures=yes costs every system call "
			"20 to 50 ns");
	if (e == 0 && !k->netns_all)
		e = append_check(
			c, "netns", ok, NULL, "only the daemon's own network namespace is watched");
	return e;
}

static bool is_covered(const struct port_ranges *ranges, struct port_range range)
{
	uint32_t next = range.low; /* the first port not known to be covered; they are ascending */

	for (uint32_t i = 0; i < ranges->count; i++)
		if (ranges->range[i].low <= next && ranges->range[i].high >= next)
			next = ranges->range[i].high + 1u;
	return next > range.high;
}

static int check_ranges(struct checks *c, const struct coverage *k)
{
	if (k->ranges.count == 0 || k->ephemeral.high == 0)
		return 0;
	if (!is_covered(&k->ranges, k->ephemeral))
		return append_check(c, "ranges", warning,
			"set Ranges=iana kernel in portledger.conf",
			"the kernel hands out %u-%u, and not all of it is watched",
			k->ephemeral.low, k->ephemeral.high);
	return append_check(c, "ranges", ok, NULL, "what the kernel hands out, %u-%u, is watched",
		k->ephemeral.low, k->ephemeral.high);
}

static int check_gaps(struct checks *c)
{
	const struct picture *p = c->picture;

	if (p->store_error < 0)
		return 0;
	if (p->day_gaps == 0)
		return append_check(c, "gaps", ok, NULL, "none in the last day");
	return append_check(c, "gaps", warning, NULL,
		"%" PRIu64 " in the last day, %" PRIu64 " s together; the latest: %s", p->day_gaps,
		p->day_gap_usec / USEC_PER_SEC, p->gap_reason);
}

static int check_disk(struct checks *c)
{
	struct statvfs st;
	uint64_t free_bytes;

	if (statvfs(c->request->methods->state_path, &st) < 0)
		return append_check(
			c, "disk", warning, NULL, "the state directory: %s", strerror(errno));
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return append_check(c, "disk", free_bytes < DISK_LOW_BYTES ? warning : ok,
		free_bytes < DISK_LOW_BYTES ? "free space, or lower MaxBytes= in portledger.conf"
					    : NULL,
		"%" PRIu64 " MiB free", free_bytes >> 20);
}

static int append_checks(struct checks *c)
{
	const struct coverage *k = picture_coverage(c->picture);
	int e = check_database(c);

	if (e == 0)
		e = check_watching(c);
	if (e == 0) /* the database's own trouble was said */
		e = each_degraded(c->request, 0, append_failure, c);
	if (e == 0)
		e = check_rung(c, k);
	if (e == 0)
		e = check_rights(c, k);
	if (e == 0)
		e = check_ranges(c, k);
	if (e == 0)
		e = check_gaps(c);
	return e == 0 ? check_disk(c) : e;
}

static int reply_doctor(struct request *r, const struct picture *p)
{
	struct checks c = {.request = r, .picture = p};
	int e = buf_append_string(&c.text, "{\"checks\":[");

	if (e == 0)
		e = append_checks(&c);
	if (e == 0)
		e = buf_append_string(&c.text, "]}");
	if (e == 0)
		e = request_reply(r, &c.text, false);
	buf_done(&c.text);
	return e;
}

static int doctor(struct request *r)
{
	_cleanup_(picture_done) struct picture p = {0};

	p.store_error = read_picture(r, &p);
	return reply_doctor(r, &p);
}

static int doctor_without_store(struct request *r, int error)
{
	const struct picture p = {.last = link_last(r->methods->link), .store_error = error};

	return reply_doctor(r, &p);
}

const struct method method_doctor = {"Doctor", no_parameters, .looks = LOOKS_ALWAYS, .run = doctor,
	.without_store = doctor_without_store};
