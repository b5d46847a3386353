/* SPDX-License-Identifier: MIT */

/*
 * The same parts as the daemon's capture, for one sweep over one port: source, table (which tells roles apart and folds
 * MPTCP), attribution. What would be sightings in the stream are claims in a reply here.
 */

#include "client/local_now.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/port_set.h"
#include "daemon/capture/attribute.h"
#include "daemon/capture/source.h"

/* IANA's (RFC 6335 §6), and what Linux hands out where the sysctl cannot be read. */
#define DYNAMIC_LOW    49152
#define EPHEMERAL_LOW  32768
#define EPHEMERAL_HIGH 60999

/* Someone waits for the answer: sooner incomplete than late. */
#define WALK_USEC (2 * USEC_PER_SEC)

struct look {
	int proc_fd;
	void *source;
	const struct source_ops *ops;
	struct source_facts facts;
	struct table *table;
	struct procfs *procfs;
	struct kernel_sockets *kernel_sockets;
	struct refs *refs;
	const char *protocol; /* only this; NULL: any */
	uint64_t netns;
	usec_t begin; /* of the sweep, in boottime */
	json_t *claims;
};

static void look_done(struct look *l)
{
	json_decref(l->claims);
	refs_free(l->refs);
	kernel_sockets_free(l->kernel_sockets);
	procfs_free(l->procfs);
	table_free(l->table);
	if (l->source)
		l->ops->free(l->source);
	close_p(&l->proc_fd);
}

static int look_open(struct look *l)
{
	struct stat netns;
	int r;

	l->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (l->proc_fd < 0)
		return -errno;
	l->ops = &source_diag_ops;
	r = source_diag_open(&l->source, &l->facts);
	if (r == -ENOENT) {
		l->ops = &source_procnet_ops;
		r = source_procnet_open(l->proc_fd, &l->source, &l->facts);
	}
	if (r < 0)
		return r;
	if (fstatat(l->proc_fd, "self/ns/net", &netns, 0) == 0)
		l->netns = netns.st_ino;
	l->table = table_new(true);
	l->procfs = procfs_new(l->proc_fd, true);
	l->kernel_sockets = kernel_sockets_new(l->proc_fd);
	l->refs = refs_new();
	l->claims = json_array();
	return l->table && l->procfs && l->kernel_sockets && l->refs && l->claims ? 0 : -ENOMEM;
}

static int on_row(void *context, const struct socket_row *row)
{
	struct look *l = context;

	return table_row(l->table, row, l->begin);
}

/* An `introduce`: the references that `refs` keeps are all that is needed. */
static int no_introduction(void *context, uint32_t ref, struct process *p)
{
	(void)context;
	(void)ref;
	(void)p;
	return 0;
}

static int attribute_all(struct look *l)
{
	struct attributor a = {
		.procfs = l->procfs,
		.refs = l->refs,
		.table = l->table,
		.kernel_sockets = l->kernel_sockets,
		.introduce = no_introduction,
		.budget_usec = WALK_USEC,
	};
	int r = attribute(&a);

	return r < 0 ? r : 0;
}

static json_t *address_json(const struct address *a)
{
	char text[ADDRESS_TEXT_MAX];

	return a->family == FAMILY_NONE ? json_null() : json_string(address_format(a, text));
}

static json_t *holders_json(const struct look *l, const struct sighting *s)
{
	json_t *holders = json_array();

	for (uint32_t i = 0; i < s->holder_count; i++) {
		const struct process *p = refs_process(l->refs, s->holders[i]);
		json_t *holder = json_pack("{s:i,s:s?,s:s?,s:s?,s:n,s:n}", "pid", p->pid, "comm",
			p->comm, "exe", p->exe, "unit", p->unit, "from_usec", "until_usec");

		if (json_array_append_new(holders, holder) < 0) {
			json_decref(holders);
			return NULL;
		}
	}
	return holders;
}

/* Who opened it, as the members of a claim. */
static json_t *process_json(const struct process *p)
{
	json_t *o = json_pack("{s:s?,s:s?,s:s?,s:s?,s:s?,s:s?}", "comm", p->comm, "exe", p->exe,
		"exe_note", exe_note_name((enum exe_note)p->exe_note), "unit", p->unit, "cgroup",
		p->cgroup, "parent_comm", p->parent_comm);

	if (!o || (p->pid > 0 && json_object_set_new(o, "pid", json_integer(p->pid)) < 0) ||
		(p->parent_pid > 0 &&
			json_object_set_new(o, "parent_pid", json_integer(p->parent_pid)) < 0) ||
		(p->uid != UID_UNSET && json_object_set_new(o, "uid", json_integer(p->uid)) < 0)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static int on_sighting(void *context, const struct sighting *s)
{
	struct look *l = context;
	_cleanup_(json_decrefp) json_t *claim = NULL, *opener = NULL;
	usec_t now = clock_now().wall;

	if (s->kind != SIGHTING_PRESENT ||
		(l->protocol && !streq(l->protocol, protocol_name((enum protocol)s->protocol))))
		return 0;
	opener = s->opener ? process_json(refs_process(l->refs, s->opener)) : json_object();
	claim = json_pack("{s:i,s:s,s:s,s:I,s:o,s:o,s:s?,s:s,s:s,s:o,s:i}", "port", s->local.port,
		"protocol", protocol_name((enum protocol)s->protocol), "family",
		s->local.address.family == FAMILY_IPV6 ? "ipv6" : "ipv4", "netns",
		(json_int_t)l->netns, "local_address", address_json(&s->local.address),
		"remote_address", address_json(&s->remote.address), "role",
		role_name((enum role)s->role), "attribution",
		attribution_name((enum attribution)s->attribution), "source",
		source_name((enum source)s->source), "holders", holders_json(l, s), "count", 1);
	if (!claim || !opener || json_object_update(claim, opener) < 0)
		return -ENOMEM;
	if (s->remote.port != 0 &&
		json_object_set_new(claim, "remote_port", json_integer(s->remote.port)) < 0)
		return -ENOMEM;
	if (s->time_wait &&
		json_object_set_new(claim, "closed_usec", json_integer((json_int_t)now)) < 0)
		return -ENOMEM;
	return json_array_append(l->claims, claim) < 0 ? -ENOMEM : 0;
}

static int sweep(struct look *l, uint16_t port)
{
	struct port_ranges ranges = {.range = {{port, port}}, .count = 1};
	uint32_t protocols = 0;
	int r;

	l->begin = clock_now().boot;
	table_begin(l->table, l->begin);
	r = l->ops->read(l->source, &ranges, on_row, l, &protocols);
	if (r < 0)
		return r;
	r = attribute_all(l);
	return r < 0 ? r
		     : table_end(l->table, clock_now().boot, protocols, l->facts.kind, on_sighting,
			       l);
}

/* net.ipv4.ip_local_port_range of our namespace. */
static struct port_range ephemeral_range(void)
{
	struct port_range range = {EPHEMERAL_LOW, EPHEMERAL_HIGH};
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned low, high;

	if (!f)
		return range;
	if (fscanf(f, "%u %u", &low, &high) == 2 && low <= high && high <= UINT16_MAX)
		range = (struct port_range){(uint16_t)low, (uint16_t)high};
	fclose(f);
	return range;
}

/* null where the kernel's list cannot be read. */
static json_t *reserved_json(uint16_t port)
{
	_cleanup_(free_p) char *text = NULL;
	struct port_set reserved = {0};
	size_t size = 0;
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_reserved_ports", "re");
	bool known = f && getline(&text, &size, f) >= 0 && port_set_parse(&reserved, text) == 0;

	if (f)
		fclose(f);
	return known ? json_boolean(port_set_has(&reserved, port)) : json_null();
}

static const char *class_of(uint16_t port)
{
	if (port < 1024)
		return "system";
	return port < DYNAMIC_LOW ? "user" : "dynamic";
}

int local_now(uint16_t port, const char *protocol, json_t **ret)
{
	_cleanup_(look_done) struct look l = {.proc_fd = -1, .protocol = protocol};
	struct port_range ephemeral = ephemeral_range();
	json_t *reply;
	int r;

	r = look_open(&l);
	if (r == 0)
		r = sweep(&l, port);
	if (r < 0)
		return r;
	reply = json_pack("{s:i,s:s,s:b,s:b,s:o,s:b,s:{s:i,s:i},s:O,s:I,s:[],s:[]}", "port", port,
		"class", class_of(port), "dynamic", port >= DYNAMIC_LOW, "ephemeral",
		port >= ephemeral.low && port <= ephemeral.high, "reserved", reserved_json(port),
		"watched", 1, "ephemeral_range", "low", ephemeral.low, "high", ephemeral.high,
		"now", l.claims, "claims_now", (json_int_t)json_array_size(l.claims), "last",
		"listened");
	if (!reply)
		return -ENOMEM;
	*ret = reply;
	return 0;
}
