// SPDX-License-Identifier: GPL-2.0-only
/* The C end of the fence: memory, files, contexts. */

#include <linux/anon_inodes.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/user.h>
#include <linux/skbuff.h>
#include <linux/sort.h>
#include <linux/vmalloc.h>

#include "shim.h"

int nettap_pin_charge(struct nettap_pin *pin, u64 bytes)
{
	struct mmpin mmp = {};
	int err = mm_account_pinned_pages(&mmp, bytes);

	pin->user = mmp.user;
	pin->pages = mmp.num_pg;
	return err;
}

void nettap_pin_release(struct nettap_pin *pin)
{
	struct mmpin mmp = { .user = pin->user, .num_pg = pin->pages };

	mm_unaccount_pinned_pages(&mmp);
}

/* What the machine could give without hardship; whoever takes more has the others killed for it. */
u64 nettap_pages_available(void)
{
	return max(si_mem_available(), 0L);
}

/* A region is many pages: where they are not to be had it fails, as ring_buffer.c's buffers do. */
struct page *nettap_page_new(void)
{
	struct page *page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN);

	/* As what a program has written: NUMA balancing knows then that it cannot move it, and does not ask. */
	if (page)
		SetPageDirty(page);
	return page;
}

/* How many pages one entry of the processor's second lowest table maps. */
u32 nettap_block_pages(void)
{
	return PMD_SIZE / PAGE_SIZE;
}

/* So many in one piece; one try at making room for it, since small pages do as well. */
struct page *nettap_block_new(void)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	struct folio *folio = folio_alloc(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NORETRY | __GFP_NOWARN,
					  HPAGE_PMD_ORDER);

	if (!folio)
		return NULL;
	folio_set_dirty(folio);
	return folio_page(folio, 0);
#else
	return NULL;
#endif
}

/* A page, or a block by its first. */
void nettap_page_put(struct page *page)
{
	put_page(page);
}

static int by_frame(const void *a, const void *b)
{
	unsigned long one = page_to_pfn(*(struct page *const *)a);
	unsigned long other = page_to_pfn(*(struct page *const *)b);

	return cmp_int(one, other);
}

/*
 * The address of blocks in the kernel's own map of all memory, if they fill one piece of it; then they are put in the order
 * in which they lie there.
 */
void *nettap_blocks_linear(struct page **blocks, u32 count)
{
	unsigned long first = ULONG_MAX, last = 0;

	for (u32 i = 0; i < count; i++) {
		first = min(first, page_to_pfn(blocks[i]));
		last = max(last, page_to_pfn(blocks[i]));
	}
	if (!count || last - first != (count - 1UL) * nettap_block_pages())
		return NULL;
	sort(blocks, count, sizeof(*blocks), by_frame, NULL);
	return page_address(blocks[0]);
}

void *nettap_vmap(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}

void nettap_vunmap(void *address)
{
	vunmap(address);
}

u64 nettap_vma_offset(const struct vm_area_struct *vma)
{
	return (u64)vma->vm_pgoff << PAGE_SHIFT;
}

u64 nettap_vma_length(const struct vm_area_struct *vma)
{
	return vma->vm_end - vma->vm_start;
}

bool nettap_vma_is_shared(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_SHARED;
}

bool nettap_vma_is_writable(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_WRITE;
}

int nettap_vma_map(struct vm_area_struct *vma, struct page **pages, u64 count, bool writable)
{
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY,
		     (writable ? 0 : VM_MAYWRITE) | VM_MAYEXEC);
	return vm_map_pages_zero(vma, pages, count);
}

/*
 * Pages will come by faults. Blocks are huge pages that are there already: of the machine's policies for making some only
 * "never" shall keep them from being mapped as such.
 */
void nettap_vma_map_later(struct vm_area_struct *vma)
{
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY | VM_HUGEPAGE, VM_MAYEXEC);
}

/* Where blocks can be mapped whole. */
unsigned long nettap_unmapped_area(struct file *file, unsigned long address, unsigned long length,
				   unsigned long offset, unsigned long flags)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return thp_get_unmapped_area(file, address, length, offset, flags);
#else
	return mm_get_unmapped_area(file, address, length, offset, flags);
#endif
}

void *nettap_fault_private(const struct vm_fault *fault)
{
	return fault->vma->vm_private_data;
}

u64 nettap_fault_offset(const struct vm_fault *fault)
{
	return fault->pgoff;
}

u32 nettap_fault_page(struct vm_fault *fault, struct page *page)
{
	if (!page)
		return (__force u32)VM_FAULT_SIGBUS;
	get_page(page);
	fault->page = page;
	return 0;
}

/*
 * The block in which the page lies, mapped whole; the mapping gets a reference to it. As its mapping permits, and not for
 * this one fault: where another has mapped small pages meanwhile the kernel warns of a write to a block (insert_pmd()).
 */
u32 nettap_fault_block(struct vm_fault *fault, u32 order, struct page *page)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	if (page && order == HPAGE_PMD_ORDER &&
	    thp_vma_suitable_order(fault->vma, fault->address, order) && pmd_none(READ_ONCE(*fault->pmd)))
		return (__force u32)vmf_insert_folio_pmd(fault, page_folio(page), false);
#endif
	return (__force u32)VM_FAULT_FALLBACK;
}

struct file *nettap_anon_file(const char *name, const struct file_operations *fops, void *private)
{
	return anon_inode_getfile(name, fops, private, O_RDWR | O_CLOEXEC);
}

void *nettap_file_private(struct file *file, const struct file_operations *fops)
{
	return file->f_op == fops ? file->private_data : NULL;
}

void nettap_fput(struct file *file)
{
	fput(file);
}

struct file *nettap_fget(int fd)
{
	return fget(fd);
}

void nettap_full_barrier(void)
{
	smp_mb();
}

void nettap_bh_disable(void)
{
	local_bh_disable();
}

void nettap_bh_enable(void)
{
	local_bh_enable();
}

/* Whether they are off, by whomever. */
bool nettap_bh_is_off(void)
{
	return softirq_count();
}

void nettap_cond_resched(void)
{
	cond_resched();
}

u32 nettap_current_tgid(void)
{
	return task_tgid_nr(current);
}

/* The caller's process, whose numbers stay known when it has ended. */
struct pid *nettap_current_process(void)
{
	return get_pid(task_tgid(current));
}

u32 nettap_process_seen(struct pid *pid)
{
	return pid_vnr(pid);
}

void nettap_process_put(struct pid *pid)
{
	put_pid(pid);
}

bool nettap_current_exits(void)
{
	return current->flags & PF_EXITING;
}

void nettap_current_comm(char *to)
{
	strscpy(to, current->comm, TASK_COMM_LEN);
}

void nettap_current_ids(u32 *user, u32 *group)
{
	*user = __kuid_val(current_euid());
	*group = __kgid_val(current_egid());
}

bool nettap_current_in_group(u32 group)
{
	return in_egroup_p(KGIDT_INIT(group));
}
