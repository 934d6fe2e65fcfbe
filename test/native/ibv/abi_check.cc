// Compiled (nothing more) where the headers of libibverbs are installed: native/ibv/abi.h declares what they declare.
#include <infiniband/verbs.h>

#include "../../../native/ibv/abi.h"
#include "../../../native/soft/verbs.h"

#define SAME(ours, member, theirs, theirMember)                                                                 \
  static_assert(offsetof(ours, member) == offsetof(theirs, theirMember) &&                                      \
                sizeof(ours::member) == sizeof(theirs::theirMember))
#define SAME_SIZE(ours, theirs) static_assert(sizeof(ours) == sizeof(theirs) && alignof(ours) == alignof(theirs))
#define EQUAL(ours, theirs) static_assert(static_cast<uint64_t>(ours) == static_cast<uint64_t>(theirs))

SAME(ibv::Mr, lkey, ibv_mr, lkey);
SAME(ibv::Mr, rkey, ibv_mr, rkey);
SAME(ibv::Mw, rkey, ibv_mw, rkey);
SAME(ibv::Mw, type, ibv_mw, type);
SAME(ibv::CompChannel, fd, ibv_comp_channel, fd);
SAME(ibv::Cq, cqContext, ibv_cq, cq_context);
SAME(ibv::Cq, cqe, ibv_cq, cqe);
SAME(ibv::Qp, qpNum, ibv_qp, qp_num);
SAME(ibv::Context, asyncFd, ibv_context, async_fd);
SAME(ibv::ContextOps, allocMw, ibv_context_ops, alloc_mw);
SAME(ibv::ContextOps, deallocMw, ibv_context_ops, dealloc_mw);
SAME(ibv::ContextOps, pollCq, ibv_context_ops, poll_cq);
SAME(ibv::ContextOps, reqNotifyCq, ibv_context_ops, req_notify_cq);
SAME(ibv::ContextOps, postSrqRecv, ibv_context_ops, post_srq_recv);
SAME(ibv::ContextOps, postSend, ibv_context_ops, post_send);
SAME(ibv::ContextOps, postRecv, ibv_context_ops, post_recv);
static_assert(offsetof(ibv::Context, ops) == offsetof(ibv_context, ops));
SAME_SIZE(ibv::ContextOps, ibv_context_ops);

SAME_SIZE(ibv::Sge, ibv_sge);
SAME(ibv::Sge, length, ibv_sge, length);
SAME(ibv::Sge, lkey, ibv_sge, lkey);
SAME_SIZE(ibv::SendWr, ibv_send_wr);
SAME(ibv::SendWr, next, ibv_send_wr, next);
SAME(ibv::SendWr, sgList, ibv_send_wr, sg_list);
SAME(ibv::SendWr, numSge, ibv_send_wr, num_sge);
SAME(ibv::SendWr, opcode, ibv_send_wr, opcode);
SAME(ibv::SendWr, sendFlags, ibv_send_wr, send_flags);
SAME(ibv::SendWr, immOrInvalidateRkey, ibv_send_wr, imm_data);
SAME(ibv::SendWr, wr.rdma.rkey, ibv_send_wr, wr.rdma.rkey);
SAME(ibv::SendWr, wr.atomic.compareAdd, ibv_send_wr, wr.atomic.compare_add);
SAME(ibv::SendWr, wr.atomic.swap, ibv_send_wr, wr.atomic.swap);
SAME(ibv::SendWr, wr.atomic.rkey, ibv_send_wr, wr.atomic.rkey);
SAME(ibv::SendWr, bind.mw, ibv_send_wr, bind_mw.mw);
SAME(ibv::SendWr, bind.rkey, ibv_send_wr, bind_mw.rkey);
SAME(ibv::SendWr, bind.info, ibv_send_wr, bind_mw.bind_info);
SAME(ibv::MwBindInfo, access, ibv_mw_bind_info, mw_access_flags);
SAME_SIZE(ibv::RecvWr, ibv_recv_wr);
SAME_SIZE(ibv::Wc, ibv_wc);
SAME(ibv::Wc, byteLen, ibv_wc, byte_len);
SAME(ibv::Wc, immOrInvalidatedRkey, ibv_wc, imm_data);
SAME(ibv::Wc, qpNum, ibv_wc, qp_num);
SAME(ibv::Wc, flags, ibv_wc, wc_flags);

SAME_SIZE(ibv::GidEntry, ibv_gid_entry);
SAME(ibv::GidEntry, type, ibv_gid_entry, gid_type);
SAME_SIZE(ibv::DeviceAttr, ibv_device_attr);
SAME(ibv::DeviceAttr, maxQp, ibv_device_attr, max_qp);
SAME(ibv::DeviceAttr, capabilities, ibv_device_attr, device_cap_flags);
SAME(ibv::DeviceAttr, maxQpRdAtom, ibv_device_attr, max_qp_rd_atom);
SAME(ibv::DeviceAttr, maxQpInitRdAtom, ibv_device_attr, max_qp_init_rd_atom);
SAME(ibv::DeviceAttr, maxMw, ibv_device_attr, max_mw);
SAME(ibv::DeviceAttr, maxSrq, ibv_device_attr, max_srq);
SAME(ibv::DeviceAttr, maxSrqWr, ibv_device_attr, max_srq_wr);
SAME(ibv::DeviceAttr, ports, ibv_device_attr, phys_port_cnt);
SAME_SIZE(ibv::PortAttr, ibv_port_attr);
SAME(ibv::PortAttr, activeMtu, ibv_port_attr, active_mtu);
SAME(ibv::PortAttr, maxMessage, ibv_port_attr, max_msg_sz);
SAME(ibv::PortAttr, lid, ibv_port_attr, lid);
SAME(ibv::PortAttr, linkLayer, ibv_port_attr, link_layer);
SAME_SIZE(ibv::SrqInitAttr, ibv_srq_init_attr);
SAME_SIZE(ibv::QpCap, ibv_qp_cap);
SAME_SIZE(ibv::QpInitAttr, ibv_qp_init_attr);
SAME(ibv::QpInitAttr, cap, ibv_qp_init_attr, cap);
SAME(ibv::QpInitAttr, sigAll, ibv_qp_init_attr, sq_sig_all);
SAME_SIZE(ibv::AhAttr, ibv_ah_attr);
SAME(ibv::AhAttr, sgidIndex, ibv_ah_attr, grh.sgid_index);
SAME(ibv::AhAttr, dlid, ibv_ah_attr, dlid);
SAME(ibv::AhAttr, isGlobal, ibv_ah_attr, is_global);
SAME(ibv::AhAttr, portNum, ibv_ah_attr, port_num);
SAME_SIZE(ibv::QpAttr, ibv_qp_attr);
SAME(ibv::QpAttr, destQpNum, ibv_qp_attr, dest_qp_num);
SAME(ibv::QpAttr, access, ibv_qp_attr, qp_access_flags);
SAME(ibv::QpAttr, ah, ibv_qp_attr, ah_attr);
SAME(ibv::QpAttr, pkeyIndex, ibv_qp_attr, pkey_index);
SAME(ibv::QpAttr, maxDestRdAtomic, ibv_qp_attr, max_dest_rd_atomic);
SAME(ibv::QpAttr, minRnrTimer, ibv_qp_attr, min_rnr_timer);
SAME(ibv::QpAttr, timeout, ibv_qp_attr, timeout);
SAME(ibv::QpAttr, rnrRetry, ibv_qp_attr, rnr_retry);
SAME_SIZE(ibv::AsyncEvent, ibv_async_event);

EQUAL(ibv::MW_TYPE_1, IBV_MW_TYPE_1);
EQUAL(ibv::MW_TYPE_2, IBV_MW_TYPE_2);
EQUAL(ibv::GID_ROCE_V2, IBV_GID_TYPE_ROCE_V2);
EQUAL(ibv::CAP_MEM_WINDOW, IBV_DEVICE_MEM_WINDOW);
EQUAL(ibv::CAP_MEM_WINDOW_TYPE_2B, IBV_DEVICE_MEM_WINDOW_TYPE_2B);
EQUAL(ibv::PORT_ACTIVE, IBV_PORT_ACTIVE);
EQUAL(ibv::LINK_LAYER_ETHERNET, IBV_LINK_LAYER_ETHERNET);
EQUAL(ibv::QP_TYPE_RC, IBV_QPT_RC);
EQUAL(ibv::qp_attr::STATE, IBV_QP_STATE);
EQUAL(ibv::qp_attr::ACCESS, IBV_QP_ACCESS_FLAGS);
EQUAL(ibv::qp_attr::PKEY_INDEX, IBV_QP_PKEY_INDEX);
EQUAL(ibv::qp_attr::PORT, IBV_QP_PORT);
EQUAL(ibv::qp_attr::AV, IBV_QP_AV);
EQUAL(ibv::qp_attr::PATH_MTU, IBV_QP_PATH_MTU);
EQUAL(ibv::qp_attr::TIMEOUT, IBV_QP_TIMEOUT);
EQUAL(ibv::qp_attr::RETRY_COUNT, IBV_QP_RETRY_CNT);
EQUAL(ibv::qp_attr::RNR_RETRY, IBV_QP_RNR_RETRY);
EQUAL(ibv::qp_attr::RQ_PSN, IBV_QP_RQ_PSN);
EQUAL(ibv::qp_attr::MAX_QP_RD_ATOMIC, IBV_QP_MAX_QP_RD_ATOMIC);
EQUAL(ibv::qp_attr::MIN_RNR_TIMER, IBV_QP_MIN_RNR_TIMER);
EQUAL(ibv::qp_attr::SQ_PSN, IBV_QP_SQ_PSN);
EQUAL(ibv::qp_attr::MAX_DEST_RD_ATOMIC, IBV_QP_MAX_DEST_RD_ATOMIC);
EQUAL(ibv::qp_attr::DEST_QPN, IBV_QP_DEST_QPN);

EQUAL(rnic::Opcode::RDMA_WRITE, IBV_WR_RDMA_WRITE);
EQUAL(rnic::Opcode::SEND, IBV_WR_SEND);
EQUAL(rnic::Opcode::RDMA_READ, IBV_WR_RDMA_READ);
EQUAL(rnic::Opcode::CMP_AND_SWP, IBV_WR_ATOMIC_CMP_AND_SWP);
EQUAL(rnic::Opcode::FETCH_AND_ADD, IBV_WR_ATOMIC_FETCH_AND_ADD);
EQUAL(rnic::Opcode::LOCAL_INV, IBV_WR_LOCAL_INV);
EQUAL(rnic::Opcode::BIND_MW, IBV_WR_BIND_MW);
EQUAL(rnic::Opcode::SEND_WITH_INV, IBV_WR_SEND_WITH_INV);
EQUAL(rnic::access::MW_BIND, IBV_ACCESS_MW_BIND);
EQUAL(rnic::send_flag::INLINE, IBV_SEND_INLINE);
EQUAL(rnic::QpState::RTS, IBV_QPS_RTS);
EQUAL(rnic::QpState::ERR, IBV_QPS_ERR);
EQUAL(rnic::WcStatus::WR_FLUSH_ERR, IBV_WC_WR_FLUSH_ERR);
EQUAL(rnic::WcStatus::RNR_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR);
EQUAL(rnic::WcOpcode::RECV_RDMA_WITH_IMM, IBV_WC_RECV_RDMA_WITH_IMM);
EQUAL(rnic::wc_flag::WITH_IMM, IBV_WC_WITH_IMM);
EQUAL(rnic::wc_flag::WITH_INV, IBV_WC_WITH_INV);
