/* SPDX-License-Identifier: MIT */

/*
 * Loads the programs and attaches them, all to the root of the cgroup tree, beside those of others. What remains of it
 * are descriptors: of the links, which hold the programs, and of the maps that the reader needs.
 */

#include "daemon/capture/events.h"

#include "common/siphash.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/stat.h>

#include "claims_object.h"

#define LOG_BYTES          (256 * 1024)
#define ROOT_CGROUP        1 /* its id, and its inode */
#define SLOT_COUNT_DEFAULT 16384u
#define SLOT_COUNT_MIN     1024u

enum attachment {
	ATTACH_CGROUP,
	ATTACH_TRACE,
	ATTACH_ITERATOR,
};

/* The programs of the object; each is a part, in this order from PART_HOOKS on, but for the iterator. */
static const struct hook {
	const char *program, *name;
	enum attachment attachment;
} hooks[] = {
	/* ends first: whatever begins under these eyes also ends under them */
	{"on_sock_release", "release", ATTACH_CGROUP},
	{"on_tcp_destroy", "destroy", ATTACH_TRACE},
	{"on_sockops", "sockops", ATTACH_CGROUP},
	{"on_post_bind4", "bind4", ATTACH_CGROUP},
	{"on_post_bind6", "bind6", ATTACH_CGROUP},
	{"on_connect4", "connect4", ATTACH_CGROUP},
	{"on_connect6", "connect6", ATTACH_CGROUP},
	{"on_sendmsg4", "sendmsg4", ATTACH_CGROUP},
	{"on_sendmsg6", "sendmsg6", ATTACH_CGROUP},
};

static const char *const part_names[] = {
	[PART_RING] = "ring",
	[PART_SHARED] = "shared",
	[PART_PROCESSES] = "processes",
	[PART_SNAPSHOT] = "snapshot",
};

const char *events_part_name(size_t part)
{
	assert(part < PART_HOOKS + ELEMENTSOF(hooks));
	return part < PART_HOOKS ? part_names[part] : hooks[part - PART_HOOKS].name;
}

uint64_t events_object_hash(void)
{
	const struct siphash_key key = {{CLAIMS_LAYOUT, 0}};

	return siphash(&key, claims_object, sizeof(claims_object));
}

void events_kernel_done(struct events_kernel *k)
{
	for (size_t i = 0; i < ELEMENTSOF(k->fds); i++) {
		close_p(&k->fds[i]);
		k->fds[i] = -1;
	}
	bpf_object__close(k->object);
	k->object = NULL;
	k->count = 0;
}

/* libbpf's words go nowhere: what is worth saying becomes an obstacle. */
static int say_nothing(enum libbpf_print_level level _unused_, const char *text _unused_,
	va_list arguments _unused_)
{
	return 0;
}

/* ---- the root of the cgroup tree ---- */

/* Where cgroup2 is mounted whole, from a line of mountinfo (proc(5)): "36 35 98:0 / /sys/fs/cgroup ... - cgroup2 ...". */
static bool parse_mount(char *line, char **ret_path)
{
	char *type = strstr(line, " - cgroup2 "), *root, *path, *end;

	if (!type)
		return false;
	root = line;
	for (int i = 0; i < 3 && root; i++) {
		root = strchr(root, ' ');
		root = root ? root + 1 : NULL;
	}
	if (!root || strncmp(root, "/ ", 2) != 0)
		return false;
	path = root + 2;
	end = strchr(path, ' ');
	if (!end)
		return false;
	*end = '\0';
	*ret_path = path;
	return true;
}

static int open_root(struct events_obstacle *ret_obstacle)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *path;
	size_t size = 0;
	struct stat status;
	int fd = -1;

	while (mounts && fd < 0 && getline(&line, &size, mounts) > 0) {
		if (!parse_mount(line, &path))
			continue;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && (fstat(fd, &status) < 0 || status.st_ino != ROOT_CGROUP)) {
			close_p(&fd);
			fd = -1;
		}
	}
	free(line);
	if (mounts)
		(void)fclose(mounts);
	if (fd >= 0)
		return fd;
	*ret_obstacle = (struct events_obstacle){
		.reason = "the root of the cgroup tree is not mounted here (cgroup2)",
		.remedy =
			"mount -t cgroup2 none /sys/fs/cgroup/unified (on the host, not in a container)",
	};
	return -ENOENT;
}

/* ---- load ---- */

static void close_object_p(struct bpf_object **object)
{
	bpf_object__close(*object);
}

static uint32_t slot_count(uint32_t ring_bytes)
{
	uint32_t count = MIN(SLOT_COUNT_DEFAULT, ring_bytes / 256);

	return MAX(SLOT_COUNT_MIN, count);
}

static int set_size(struct bpf_object *object, const char *map, uint32_t entries)
{
	struct bpf_map *m = bpf_object__find_map_by_name(object, map);

	return m ? bpf_map__set_max_entries(m, entries) : -ENOENT;
}

static int load(uint32_t ring_bytes, char *said, struct bpf_object **ret)
{
	LIBBPF_OPTS(bpf_object_open_opts, o, .object_name = "portledger", .kernel_log_buf = said,
		.kernel_log_size = LOG_BYTES);
	_cleanup_(close_object_p) struct bpf_object *object = NULL;
	int r;

	(void)libbpf_set_print(say_nothing);
	object = bpf_object__open_mem(claims_object, sizeof(claims_object), &o);
	if (!object)
		return -errno;
	r = set_size(object, "ring", ring_bytes);
	if (r == 0)
		r = set_size(object, "processes", slot_count(ring_bytes));
	if (r == 0)
		r = set_size(object, "identities", slot_count(ring_bytes));
	if (r == 0)
		r = bpf_object__load(object);
	if (r == 0)
		*ret = TAKE_PTR(object);
	return r;
}

/* ---- attach ---- */

/* A descriptor that is ours: libbpf's goes with its object. */
static int keep(int fd, int *ret)
{
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret < 0 ? -errno : 0;
}

static int keep_map(struct bpf_object *object, const char *name, int *ret)
{
	struct bpf_map *m = NULL;

	if (name)
		return keep(bpf_object__find_map_fd_by_name(object, name), ret);
	/* the section has a name of libbpf's making */
	bpf_object__for_each_map(
		m, object) if (bpf_map__value_size(m) ==
			       sizeof(struct claims_shared)) return keep(bpf_map__fd(m), ret);
	return -ENOENT;
}

static int attach(struct bpf_object *object, const struct hook *h, int root, int *ret)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, h->program);
	struct bpf_link *link = NULL;
	int r;

	if (!program)
		return -ENOENT;
	switch (h->attachment) {
	case ATTACH_CGROUP:
		link = bpf_program__attach_cgroup(program, root);
		break;
	case ATTACH_TRACE:
		link = bpf_program__attach_trace(program);
		break;
	case ATTACH_ITERATOR:
		link = bpf_program__attach_iter(program, NULL);
		break;
	}
	if (!link)
		return -errno;
	r = keep(bpf_link__fd(link), ret);
	(void)bpf_link__destroy(link);
	return r;
}

static int keep_maps(struct bpf_object *object, struct events_kernel *k)
{
	int r = keep_map(object, "ring", &k->fds[PART_RING]);

	if (r == 0)
		r = keep_map(object, NULL, &k->fds[PART_SHARED]);
	if (r == 0)
		r = keep_map(object, "processes", &k->fds[PART_PROCESSES]);
	return r;
}

int events_load(
	uint32_t ring_bytes, struct events_kernel *ret, struct events_obstacle *ret_obstacle)
{
	_cleanup_(free_p) char *said = calloc(1, LOG_BYTES);
	struct events_kernel k = {.slots = slot_count(ring_bytes)};
	int r;

	if (!said)
		return -ENOMEM;
	memset(k.fds, 0xff, sizeof(k.fds));
	k.count = PART_HOOKS + ELEMENTSOF(hooks);
	r = load(ring_bytes, said, &k.object);
	if (r == 0)
		r = keep_maps(k.object, &k);
	if (r < 0) {
		*ret_obstacle = events_obstacle_of(r, said);
		events_kernel_done(&k);
		return r;
	}
	*ret = k;
	return 0;
}

int events_attach(struct events_kernel *k, const struct source_events_options *options,
	struct events_obstacle *ret_obstacle)
{
	_cleanup_(close_p) int root = open_root(ret_obstacle);
	int r = 0;

	(void)options;
	if (root < 0)
		return root;
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(hooks); i++)
		r = attach(k->object, &hooks[i], root, &k->fds[PART_HOOKS + i]);
	if (r < 0)
		*ret_obstacle = events_obstacle_of(r, "");
	bpf_object__close(k->object);
	k->object = NULL;
	return r;
}
