/* SPDX-License-Identifier: MIT */

/*
 * Claims are made in the order of their release, since that is the order in which the store gets them: a release is
 * drawn every span/count, and the opening lies a drawn length before it.
 *
 * What sweeps know is made of what happened: the first sweep after the opening and the first after the end, each with
 * the jitter of a timer and the offset of a row within its dump, bounded by the sweep before.
 */

#include "bench/workload.h"

#include <math.h>
#include <stdio.h>

#define APPS    200u
#define REMOTES 500000u
#define SHARED  4u /* claims of one short-lived process */

/* Walker's alias method: a draw from any distribution in constant time. */
struct alias {
	uint32_t count;
	double *keep;
	uint32_t *other;
};

struct app {
	struct process *process; /* one reference */
	uint32_t claims;         /* of this process */
	bool short_lived;
};

struct workload {
	enum workload_times times;
	uint64_t count, next;
	usec_t step, released;
	uint64_t random;
	int32_t pid;
	struct alias apps_by_claims, remotes;
	struct app apps[APPS];
};

uint64_t workload_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint32_t below(struct workload *w, uint32_t limit)
{
	return (uint32_t)((workload_random(&w->random) >> 32) * limit >> 32);
}

static double unit(struct workload *w)
{
	return (double)((workload_random(&w->random) >> 11) + 1) * 0x1p-53;
}

static void alias_done(struct alias *a)
{
	free(a->keep);
	free(a->other);
}

/* Zipf's law with this exponent. False: no memory. */
static bool alias_init(struct alias *a, uint32_t count, double exponent)
{
	_cleanup_(free_p) uint32_t *small = calloc(count, sizeof(*small));
	_cleanup_(free_p) uint32_t *large = calloc(count, sizeof(*large));
	uint32_t smalls = 0, larges = 0;
	double sum = 0;

	*a = (struct alias){
		count, calloc(count, sizeof(*a->keep)), calloc(count, sizeof(*a->other))};
	if (!small || !large || !a->keep || !a->other)
		return false;
	for (uint32_t i = 0; i < count; i++)
		sum += a->keep[i] = pow(i + 1, -exponent);
	for (uint32_t i = 0; i < count; i++) {
		a->keep[i] *= count / sum;
		a->other[i] = i;
		if (a->keep[i] < 1)
			small[smalls++] = i;
		else
			large[larges++] = i;
	}
	while (smalls > 0 && larges > 0) {
		uint32_t s = small[--smalls], l = large[larges - 1];

		a->other[s] = l;
		a->keep[l] -= 1 - a->keep[s];
		if (a->keep[l] < 1) {
			larges--;
			small[smalls++] = l;
		}
	}
	return true;
}

static uint32_t alias_draw(struct workload *w, const struct alias *a)
{
	uint32_t i = below(w, a->count);

	return unit(w) <= a->keep[i] ? i : a->other[i];
}

static struct process *new_process(struct workload *w, uint32_t app)
{
	struct process *p = process_new();
	char text[64];

	if (!p)
		return NULL;
	p->pid = w->pid++;
	p->parent_pid = 1 + (int32_t)app;
	p->start_boot = w->released;
	p->pidfd_inode = (uint64_t)w->pid * 3;
	p->uid = app % 3 ? 1000 + app % 7 : 0;
	snprintf(text, sizeof(text), "program-%u", app);
	p->comm = strdup(text);
	snprintf(text, sizeof(text), "/usr/lib/application-%u/bin/program-%u", app, app);
	p->exe = strdup(text);
	snprintf(text, sizeof(text), "application-%u.service", app);
	p->unit = strdup(text);
	snprintf(text, sizeof(text), "/system.slice/application-%u.service", app);
	p->cgroup = strdup(text);
	p->parent_comm = strdup(app % 2 ? "systemd" : "bash");
	return p;
}

struct workload *workload_new(enum workload_times times, uint64_t count, usec_t span)
{
	_cleanup_(workload_free_p) struct workload *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->times = times;
	w->count = count;
	w->step = span / MAX(count, UINT64_C(1));
	w->released = WORKLOAD_BOOT;
	w->random = UINT64_C(0x9e3779b97f4a7c15);
	w->pid = 1000;
	if (!alias_init(&w->apps_by_claims, APPS, 1.2) || !alias_init(&w->remotes, REMOTES, 1.05))
		return NULL;
	for (uint32_t i = 0; i < APPS; i++)
		w->apps[i].short_lived = i % 10 == 2 || i % 10 == 5 || i % 10 == 8;
	return TAKE_PTR(w);
}

struct workload *workload_free(struct workload *w)
{
	if (!w)
		return NULL;
	for (uint32_t i = 0; i < APPS; i++)
		process_unref(w->apps[i].process);
	alias_done(&w->apps_by_claims);
	alias_done(&w->remotes);
	free(w);
	return NULL;
}

static struct process *draw_process(struct workload *w)
{
	uint32_t i = alias_draw(w, &w->apps_by_claims);
	struct app *app = &w->apps[i];

	if (app->process && app->short_lived && app->claims == SHARED)
		app->process = process_unref(app->process);
	if (!app->process) {
		app->process = new_process(w, i);
		app->claims = 0;
	}
	app->claims++;
	return process_ref(app->process);
}

static usec_t draw_length(struct workload *w)
{
	static const struct {
		uint32_t per_mille;
		usec_t mean;
	} lengths[] = {
		{600, 200 * USEC_PER_MSEC},
		{300, 5 * USEC_PER_SEC},
		{80, 2 * USEC_PER_MINUTE},
		{19, USEC_PER_HOUR},
		{1, USEC_PER_DAY},
	};
	uint32_t draw = below(w, 1000), i = 0;

	while (draw >= lengths[i].per_mille)
		draw -= lengths[i++].per_mille;
	return (usec_t)(-log(unit(w)) * (double)lengths[i].mean);
}

uint16_t workload_hot_port(uint32_t i)
{
	return (uint16_t)(WORKLOAD_PORT_FIRST + i * (WORKLOAD_PORTS / WORKLOAD_HOT_PORTS) + 80);
}

static struct address remote_address(uint32_t i)
{
	struct address a = {.family = i % 5 == 3 ? FAMILY_IPV6 : FAMILY_IPV4};
	uint64_t bits = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	memcpy(a.bytes, &bits, a.family == FAMILY_IPV6 ? 8 : 4);
	if (a.family == FAMILY_IPV6) {
		memcpy(a.bytes + 8, &bits, 8);
		memcpy(a.bytes, (const uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
	}
	return a;
}

static struct address local_address(uint8_t family, bool loopback)
{
	static const struct address addresses[] = {
		{FAMILY_IPV4, {192, 0, 2, 10}},
		{FAMILY_IPV4, {127, 0, 0, 1}},
		{FAMILY_IPV6, {0x20, 0x01, 0x0d, 0xb8, [15] = 10}},
		{FAMILY_IPV6, {[15] = 1}},
	};

	return addresses[(family == FAMILY_IPV6) * 2 + loopback];
}

static void draw_ends(struct workload *w, struct claim *c)
{
	static const uint16_t services[] = {443, 443, 443, 443, 443, 443, 80, 53, 22, 8443};
	bool hot = below(w, 100) < 11;

	c->protocol = !hot && below(w, 6) == 0 ? PROTOCOL_UDP : PROTOCOL_TCP;
	c->role = hot ? ROLE_ACCEPTED : ROLE_CONNECTED;
	c->remote.address = remote_address(alias_draw(w, &w->remotes));
	c->remote.port = hot ? (uint16_t)(32768 + below(w, 28232)) : services[below(w, 10)];
	c->local.address = local_address(c->remote.address.family, below(w, 10) == 0);
	c->local.port = hot ? workload_hot_port(below(w, WORKLOAD_HOT_PORTS))
			    : (uint16_t)(WORKLOAD_PORT_FIRST + below(w, WORKLOAD_PORTS));
}

/* The beginning of the n-th sweep: a timer is late by up to 2 ms, now and then by 20. */
static usec_t sweep_begin(uint64_t n)
{
	uint64_t bits = (n + 1) * UINT64_C(0xd1342543de82ef95);

	bits ^= bits >> 29;
	return n * WORKLOAD_INTERVAL + bits % (bits >> 40 & 31 ? 2000 : 20000);
}

/* When sweep `n` came to this row. */
static usec_t sweep_row(struct workload *w, uint64_t n)
{
	return sweep_begin(n) + below(w, 3000);
}

static void see_by_sweeps(struct workload *w, struct claim *c)
{
	uint64_t first = c->opened_boot / WORKLOAD_INTERVAL + 1;
	uint64_t gone = MAX(c->closed_boot / WORKLOAD_INTERVAL, first) + 1;
	usec_t linger = c->released_boot - c->closed_boot;

	c->opened_boot = sweep_row(w, first);
	c->opened_after_boot = sweep_begin(first - 1);
	c->closed_boot = sweep_row(w, gone);
	c->closed_after_boot = sweep_row(w, gone - 1);
	c->closed_after_boot = MAX(c->closed_after_boot, c->opened_after_boot);
	/* the remainder's end is when its timer was due */
	c->released_boot =
		c->closed_boot + usec_sub(linger, linger ? below(w, WORKLOAD_INTERVAL) : 0);
}

bool workload_next(struct workload *w, struct claim *ret)
{
	struct claim c = {
		.cookie = w->next + 1,
		.netns = WORKLOAD_NETNS,
		.attribution = w->times == WORKLOAD_SWEEP ? ATTRIBUTION_PROCFD : ATTRIBUTION_EVENT,
		.source = w->times == WORKLOAD_SWEEP ? SOURCE_SWEEP : SOURCE_EVENTS,
		.opened_after_boot = USEC_UNSET,
		.closed_after_boot = USEC_UNSET,
	};
	usec_t linger;

	if (w->next == w->count)
		return false;
	w->next++;
	w->released += w->step;
	draw_ends(w, &c);
	linger = c.protocol == PROTOCOL_TCP && below(w, 2) ? USEC_PER_MINUTE : 0;
	c.released_boot = w->released;
	c.closed_boot = w->released - linger;
	c.opened_boot = c.closed_boot - draw_length(w) - 1;
	if (w->times == WORKLOAD_SWEEP)
		see_by_sweeps(w, &c);
	c.opened_wall = WORKLOAD_WALL + c.opened_boot - WORKLOAD_BOOT;
	c.opener = draw_process(w);
	if (!c.opener)
		return false;
	*ret = c;
	return true;
}

struct now workload_now(const struct workload *w)
{
	return (struct now){
		.boot = w->released, .wall = WORKLOAD_WALL + w->released - WORKLOAD_BOOT};
}
