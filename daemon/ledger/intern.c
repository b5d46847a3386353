/* SPDX-License-Identifier: MIT */

/*
 * Claims name their process and their local address by the id of a row, so that what repeats is stored once. The
 * ids are remembered here, in maps that are filled as they are needed and bounded in bytes: what falls out is found
 * again by its index (app, local), by a scan of a small table (netns), or written a second time (process: nobody
 * looks processes up, so they have no index to pay for).
 *
 * A map's entry may outlive its row in two ways, and both are provided for. The transaction that made the row fails:
 * entries carry the number of their transaction and are forgotten with it. Retention deletes the row: it names the
 * ids that it deleted. process->store_id, which is outside of the maps, is believed only while its epoch is the
 * store's; both events begin a new epoch, after which a process is looked up in the map once more.
 */

#include "daemon/ledger/store_private.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct intern_entry {
	UT_hash_handle by_key, by_id;
	int64_t id;
	uint64_t transaction; /* that made or read it */
	bool used;            /* since it was last at the front of the queue */
	size_t size;          /* of the key */
	uint8_t key[];
};

static void entry_drop(struct intern *i, struct intern_entry *e)
{
	HASH_DELETE(by_key, i->by_key, e);
	HASH_DELETE(by_id, i->by_id, e);
	i->bytes -= sizeof(*e) + e->size;
	free(e);
}

/* 0: not there. */
static int64_t intern_find(struct intern *i, const void *key, size_t size)
{
	struct intern_entry *e;

	HASH_FIND(by_key, i->by_key, key, size, e);
	if (!e)
		return 0;
	e->used = true;
	return e->id;
}

/* Drops from the front of the queue what was not used since it came there; the rest gets a second chance. */
static void intern_shrink(struct intern *i, size_t limit)
{
	while (i->by_key && i->bytes > limit) {
		struct intern_entry *e = i->by_key;

		if (!e->used) {
			entry_drop(i, e);
			continue;
		}
		e->used = false;
		HASH_DELETE(by_key, i->by_key, e);
		HASH_ADD_KEYPTR(by_key, i->by_key, e->key, e->size, e);
		if (!e->by_key.tbl) { /* no memory for the table itself */
			HASH_DELETE(by_id, i->by_id, e);
			i->bytes -= sizeof(*e) + e->size;
			free(e);
		}
	}
}

/* A cache only: without memory it stays as it is. */
static void intern_add(
	struct intern *i, const void *key, size_t size, int64_t id, uint64_t transaction)
{
	struct intern_entry *e;

	intern_forget(i, id);
	intern_shrink(i, LIMIT_INTERN_BYTES - MIN(sizeof(*e) + size, (size_t)LIMIT_INTERN_BYTES));
	e = calloc(1, sizeof(*e) + size);
	if (!e)
		return;
	memcpy(e->key, key, size);
	e->size = size;
	e->id = id;
	e->transaction = transaction;
	HASH_ADD_KEYPTR(by_key, i->by_key, e->key, e->size, e);
	if (!e->by_key.tbl) {
		free(e);
		return;
	}
	HASH_ADD(by_id, i->by_id, id, sizeof(e->id), e);
	if (!e->by_id.tbl) {
		HASH_DELETE(by_key, i->by_key, e);
		free(e);
		return;
	}
	i->bytes += sizeof(*e) + size;
}

void intern_forget(struct intern *i, int64_t id)
{
	struct intern_entry *e;

	HASH_FIND(by_id, i->by_id, &id, sizeof(id), e);
	if (e)
		entry_drop(i, e);
}

void intern_done(struct intern *i)
{
	struct intern_entry *e, *next;

	HASH_ITER (by_key, i->by_key, e, next)
		entry_drop(i, e);
}

static void forget_transaction(struct intern *i, uint64_t transaction)
{
	struct intern_entry *e, *next;

	HASH_ITER (by_key, i->by_key, e, next)
		if (e->transaction == transaction)
			entry_drop(i, e);
}

void intern_rollback(struct store *s)
{
	forget_transaction(&s->apps, s->transaction);
	forget_transaction(&s->processes, s->transaction);
	forget_transaction(&s->locals, s->transaction);
	forget_transaction(&s->netns, s->transaction);
	s->epoch++;
}

static void bind_app(struct binder *b, const struct process *p)
{
	bind_text(b, p->exe);
	bind_text(b, p->comm);
	bind_int(b, p->exe_note);
	if (p->uid == UID_UNSET)
		bind_null(b);
	else
		bind_int(b, p->uid);
	bind_text(b, p->unit);
	bind_text(b, p->cgroup);
}

/* The identity of an app as bytes: its numbers, then its strings, each with its length before it. */
static size_t app_key(const struct process *p, uint8_t *key)
{
	const char *const strings[] = {p->exe, p->comm, p->unit, p->cgroup};
	size_t size = 0;

	memcpy(key, &p->uid, sizeof(p->uid));
	size += sizeof(p->uid);
	key[size++] = p->exe_note;
	for (size_t i = 0; i < ELEMENTSOF(strings); i++) {
		uint16_t length =
			strings[i] ? (uint16_t)strnlen(strings[i], LIMIT_STRING_BYTES) : 0;

		memcpy(key + size, &length, sizeof(length));
		size += sizeof(length);
		if (length > 0)
			memcpy(key + size, strings[i], length);
		size += length;
	}
	return size;
}
#define APP_KEY_MAX (8 + 4 * (2 + LIMIT_STRING_BYTES))

static int intern_app(struct store *s, const struct process *p, usec_t when, int64_t *ret)
{
	uint8_t key[APP_KEY_MAX];
	size_t size = app_key(p, key);
	struct binder b;
	int64_t id = intern_find(&s->apps, key, size);
	int r;

	if (id == 0) {
		b = sql_bind(s, STATEMENT_APP_FIND);
		bind_app(&b, p);
		r = sql_value(s, STATEMENT_APP_FIND, 0, &id);
		if (r < 0)
			return r;
		if (id == 0) {
			b = sql_bind(s, STATEMENT_APP_ADD);
			bind_app(&b, p);
			bind_time(&b, when);
			r = sql_run(s, STATEMENT_APP_ADD);
			if (r < 0)
				return r;
			id = sqlite3_last_insert_rowid(s->db);
		}
		intern_add(&s->apps, key, size, id, s->transaction);
	}
	*ret = id;
	return 0;
}

/* What makes a process the same one: its program is part of it, since execve(2) changes that but not the pid. */
struct process_key {
	int64_t app;
	uint64_t pid, start_boot, pidfd_inode;
};

static struct process_key process_key(const struct process *p, int64_t app)
{
	return (struct process_key){
		.app = app,
		.pid = (uint64_t)p->pid,
		.start_boot = p->start_boot,
		.pidfd_inode = p->pidfd_inode,
	};
}

static int add_process(struct store *s, const struct process *p, int64_t app, usec_t when)
{
	struct binder b = sql_bind(s, STATEMENT_PROCESS_ADD);

	bind_int(&b, app);
	bind_int(&b, s->session);
	bind_time(&b, p->pid == 0 ? USEC_UNSET : (usec_t)p->pid);
	bind_time(&b, p->start_boot);
	bind_time(&b, p->pidfd_inode == 0 ? USEC_UNSET : p->pidfd_inode);
	bind_time(&b, p->parent_pid == 0 ? USEC_UNSET : (usec_t)p->parent_pid);
	bind_text(&b, p->parent_comm);
	bind_time(&b, when + s->state.process_margin);
	return sql_run(s, STATEMENT_PROCESS_ADD);
}

static void mark_stored(struct store *s, struct process *p, int64_t id)
{
	p->store_id = (uint64_t)id;
	p->store_epoch = s->epoch;
}

void intern_know_process(struct store *s, struct process *p, int64_t app, int64_t id)
{
	struct process_key key = process_key(p, app);

	intern_add(&s->processes, &key, sizeof(key), id, 0);
	mark_stored(s, p, id);
}

int intern_process(struct store *s, struct process *p, usec_t when, int64_t *ret)
{
	struct process_key key;
	int64_t app, id;
	int r;

	if (!p || (p->store_id != 0 && p->store_epoch == s->epoch)) {
		*ret = p ? (int64_t)p->store_id : 0;
		return 0;
	}
	r = intern_app(s, p, when, &app);
	if (r < 0)
		return r;
	key = process_key(p, app);
	id = intern_find(&s->processes, &key, sizeof(key));
	if (id == 0) {
		r = add_process(s, p, app, when);
		if (r < 0)
			return r;
		id = sqlite3_last_insert_rowid(s->db);
		intern_add(&s->processes, &key, sizeof(key), id, s->transaction);
	}
	mark_stored(s, p, id);
	*ret = id;
	return 0;
}

static int find_netns(struct store *s, uint64_t cookie, int64_t *ret)
{
	struct binder b;

	*ret = intern_find(&s->netns, &cookie, sizeof(cookie));
	if (*ret != 0)
		return 0;
	b = sql_bind(s, STATEMENT_NETNS_FIND);
	bind_blob(&b, s->boot_id, sizeof(s->boot_id));
	bind_unsigned(&b, cookie);
	return sql_value(s, STATEMENT_NETNS_FIND, 0, ret);
}

int intern_netns(struct store *s, uint64_t cookie, const struct netns *told, int64_t *ret)
{
	struct binder b;
	int64_t id = 0;
	int r = find_netns(s, cookie, &id);

	if (r < 0)
		return r;
	if (id == 0 || told) {
		b = sql_bind(s, id == 0 ? STATEMENT_NETNS_ADD : STATEMENT_NETNS_SET);
		bind_int(&b, id == 0 ? s->session : id);
		if (id == 0)
			bind_unsigned(&b, cookie);
		bind_unsigned(&b, told ? told->inode : 0);
		bind_text(&b, told ? told->name : NULL);
		bind_int(&b, told ? told->ephemeral.low : 0);
		bind_int(&b, told ? told->ephemeral.high : 0);
		r = sql_run(s, id == 0 ? STATEMENT_NETNS_ADD : STATEMENT_NETNS_SET);
		if (r < 0)
			return r;
		if (id == 0)
			id = sqlite3_last_insert_rowid(s->db);
	}
	intern_add(&s->netns, &cookie, sizeof(cookie), id, s->transaction);
	*ret = id;
	return 0;
}

/* Without padding, since its bytes are the key. */
struct local_key {
	uint64_t netns_cookie;
	struct address address;
} __attribute__((packed));

int intern_local(struct store *s, uint64_t netns_cookie, const struct address *a, int64_t *ret)
{
	struct local_key key = {.netns_cookie = netns_cookie, .address = *a};
	char text[ADDRESS_TEXT_MAX];
	struct binder b;
	int64_t netns, id = intern_find(&s->locals, &key, sizeof(key));
	int r;

	if (id == 0) {
		r = intern_netns(s, netns_cookie, NULL, &netns);
		if (r < 0)
			return r;
		b = sql_bind(s, STATEMENT_LOCAL_FIND);
		bind_int(&b, netns);
		bind_text(&b, address_format(a, text));
		r = sql_value(s, STATEMENT_LOCAL_FIND, 0, &id);
		if (r < 0)
			return r;
		if (id == 0) {
			b = sql_bind(s, STATEMENT_LOCAL_ADD);
			bind_int(&b, netns);
			bind_text(&b, text);
			r = sql_run(s, STATEMENT_LOCAL_ADD);
			if (r < 0)
				return r;
			id = sqlite3_last_insert_rowid(s->db);
		}
		intern_add(&s->locals, &key, sizeof(key), id, s->transaction);
	}
	*ret = id;
	return 0;
}
