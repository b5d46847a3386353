/* SPDX-License-Identifier: MIT */

#include "daemon/listen.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#define PASSED_NAME "varlink" /* what systemd's own Varlink services call theirs */
#define GROUP_NAME  "portledger"
#define BACKLOG     128

static int adopt(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0)
		return -EINVAL;
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int listen_passed(struct passed *passed, int *ret_fd)
{
	_cleanup_(close_p) int fd = passed_find(passed, PASSED_NAME);
	int r;

	if (fd < 0)
		return 0;
	r = adopt(fd);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 1;
}

static int make_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_(free_p) char *parent = NULL;

	if (!slash || slash == path)
		return 0;
	parent = strndup(path, (size_t)(slash - path));
	if (!parent)
		return -ENOMEM;
	return mkdir(parent, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

/* Makes way: 0 when nothing is there now. */
static int remove_stale(const char *path, const struct sockaddr_un *address)
{
	_cleanup_(close_p) int fd = -1;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (errno != ECONNREFUSED)
		return -errno;
	return unlink(path) < 0 ? -errno : 0;
}

gid_t listen_group(void)
{
	const struct group *group = getgrnam(GROUP_NAME);

	if (!group)
		return LISTEN_NO_GROUP;
	/* Who is not root is in it or is not; what root has besides is not needed. */
	(void)!setgroups(1, &group->gr_gid);
	return group->gr_gid;
}

/* Gives the socket to the group, if there is one and we may. */
static mode_t choose_mode(const char *path, gid_t group)
{
	return group != LISTEN_NO_GROUP && chown(path, (uid_t)-1, group) == 0 ? 0660 : 0600;
}

int listen_at(const char *path, gid_t group, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_(close_p) int fd = -1;
	mode_t before;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	r = make_parent(path);
	if (r == 0)
		r = remove_stale(path, &address);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	before = umask(0177); /* nobody else may connect before the mode is right */
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(before);
	if (r == 0 && (chmod(path, choose_mode(path, group)) < 0 || listen(fd, BACKLOG) < 0))
		r = -errno;
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

const char *listen_trouble(int error)
{
	if (error == -EADDRINUSE)
		return "another daemon serves it";
	if (error == -EEXIST)
		return "there is something else than a socket";
	return strerror(-error);
}
